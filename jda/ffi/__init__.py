"""The native libraries: loading them and calling their kernels through XLA's FFI."""
