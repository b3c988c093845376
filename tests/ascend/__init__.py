"""The Ascend C kernels under the emulator."""
