"""Where jobs are done: processes of this machine or a Dask cluster, with progress and signals."""
