"""Routines that compiled code calls on processors that lack the instruction.

LLVM turns conversions of half precision into calls of routines by these names where there is no
F16C; a compiler's runtime library has them, but none is part of this process. Fused multiply-add
without FMA becomes a call of `fma` or `fmaf`, which the C library has and which are exact.
"""

from __future__ import annotations

#: Names of the routines in `HALF_ROUTINES`.
HALF_NAMES = ("__extendhfsf2", "__truncsfhf2")

#: Single precision from half and back, to nearest even, in integers but for two exact steps.
HALF_ROUTINES = """
define float @__extendhfsf2(half %half) nounwind {
  %narrow = bitcast half %half to i16
  %bits = zext i16 %narrow to i32
  %sign16 = and i32 %bits, 32768
  %sign = shl i32 %sign16, 16
  %magnitude = and i32 %bits, 32767
  %moved = shl i32 %magnitude, 13
  %normal = add i32 %moved, 939524096
  %special = add i32 %moved, 1879048192
  %count = uitofp i32 %magnitude to float
  %tiny = fmul float %count, 0x3E70000000000000
  %subnormal = bitcast float %tiny to i32
  %is.special = icmp uge i32 %magnitude, 31744
  %is.subnormal = icmp ult i32 %magnitude, 1024
  %finite = select i1 %is.subnormal, i32 %subnormal, i32 %normal
  %value = select i1 %is.special, i32 %special, i32 %finite
  %is.nan = icmp ugt i32 %magnitude, 31744
  %quiet = select i1 %is.nan, i32 4194304, i32 0
  %unsigned = or i32 %value, %quiet
  %signed = or i32 %unsigned, %sign
  %result = bitcast i32 %signed to float
  ret float %result
}

define half @__truncsfhf2(float %single) nounwind {
  %bits = bitcast float %single to i32
  %sign32 = lshr i32 %bits, 16
  %sign = and i32 %sign32, 32768
  %magnitude = and i32 %bits, 2147483647
  %cut = lshr i32 %magnitude, 13
  %odd = and i32 %cut, 1
  %bias = add i32 %odd, 4095
  %biased = add i32 %magnitude, %bias
  %moved = lshr i32 %biased, 13
  %normal = sub i32 %moved, 114688
  %absolute = bitcast i32 %magnitude to float
  %aligned = fadd float %absolute, 0.5
  %aligned.bits = bitcast float %aligned to i32
  %subnormal = sub i32 %aligned.bits, 1056964608
  %is.subnormal = icmp ult i32 %magnitude, 947912704
  %finite = select i1 %is.subnormal, i32 %subnormal, i32 %normal
  %is.large = icmp uge i32 %magnitude, 1199566848
  %ordered = select i1 %is.large, i32 31744, i32 %finite
  %is.nan = icmp ugt i32 %magnitude, 2139095040
  %payload = and i32 %cut, 1023
  %quiet = or i32 %payload, 32256
  %value = select i1 %is.nan, i32 %quiet, i32 %ordered
  %signed = or i32 %value, %sign
  %narrow = trunc i32 %signed to i16
  %result = bitcast i16 %narrow to half
  ret half %result
}
"""
