"""A CUDA device in software: PTX is compiled to machine code of the host and run on its cores."""

from .errors import DeviceFault, PtxError
from .gpu import SoftwareGpu
from .module import Function, Module, ParamInfo

__all__ = ["DeviceFault", "Function", "Module", "ParamInfo", "PtxError", "SoftwareGpu"]
