"""The laboratory: experiments by name, run over methods and seeds, judged with statistics (extra ``lab``)."""
