"""A CUDA device in software: PTX is compiled to machine code of the host and run on its cores."""

from .errors import DeviceFault, PtxError
from .function import Function, ParamInfo
from .gpu import SoftwareGpu
from .module import Module

__all__ = ["DeviceFault", "Function", "Module", "ParamInfo", "PtxError", "SoftwareGpu"]
