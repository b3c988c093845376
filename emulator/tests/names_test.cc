// A kernel may have the name of a function of C: no header that it includes declares any.
#include "kernel_operator.h"

extern "C" __global__ __vector__ void hypot(GM_ADDR in, GM_ADDR out) {
  AscendC::InitSocState();
  AscendC::LocalMemAllocator<AscendC::Hardware::UB> allocator;
  const AscendC::LocalTensor<float> x = allocator.Alloc<float, 64>();
  AscendC::GlobalTensor<float> source, target;
  source.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(in), 64);
  target.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out), 64);
  AscendC::DataCopy(x, source, 64);
  AscendC::PipeBarrier<PIPE_ALL>();
  AscendC::Abs(x, x, 64);
  AscendC::PipeBarrier<PIPE_ALL>();
  AscendC::DataCopy(target, x, AscendC::AlignUp(60, AscendC::B32_DATA_NUM_PER_BLOCK));
  AscendC::PipeBarrier<PIPE_ALL>();
}

#include "emulator.h"
#include "test.h"

TEST(a_kernel_called_hypot_without_a_pipe) {
  emulator::Gm gm;
  float* in = gm.upload(std::vector<float>(64, -3.0f), "in");
  float* out = gm.upload(std::vector<float>(64, 0.0f), "out");
  emulator::Options options;
  options.automatic_sync = false;
  const auto report = emulator::launch(gm, options, 1, [&] {
    hypot(reinterpret_cast<GM_ADDR>(in), reinterpret_cast<GM_ADDR>(out));
  });
  if (!report.clean()) std::printf("%s", report.text().c_str());
  CHECK(report.clean());
  for (const float v : gm.download(out, 64)) CHECK(v == 3.0f);
}

int main() { return run_tests(); }
