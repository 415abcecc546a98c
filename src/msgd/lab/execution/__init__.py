"""Run jobs in processes of this machine or on a Dask cluster, with progress, signals and data for the workers."""
