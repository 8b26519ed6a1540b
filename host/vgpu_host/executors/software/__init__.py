"""A CUDA device in software: PTX is compiled to machine code of the host and run on its cores."""
