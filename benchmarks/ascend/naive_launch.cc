// Lets the test driver launch the naive kernels.

#include "emulator.h"
#include "kernel_operator.h"
#include "make_tiling.h"
#include "naive.cpp"

void run_naive(emulator::Gm& gm, const emulator::Options& options, const jda_ascend::Call& call,
               uint8_t* const* a, emulator::Report& report) {
  const naive::Sizes sizes{call.batch,  call.rows,    call.channels, call.anchors,
                           call.points, call.cameras, call.scales,   call.groups};
  const int64_t anchors = call.batch * call.anchors;
  const int blocks = static_cast<int>(std::min<int64_t>(options.cores, anchors));
  report = emulator::launch(gm, options, blocks, [&] {
    if (call.operation == jda_ascend::Operation::kForward) {
      naive_forward(a[0], a[1], a[2], a[3], a[4], a[6], sizes);
    } else {
      naive_backward(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], sizes);
    }
  });
}
