"""Translation of analysed kernels to LLVM IR, one file per family of instructions."""
