"""Results for other programs and for papers: tables as CSV, Parquet and LaTeX, figures as SVG, PDF and PNG."""
