// The model of time: that it says what its figures say, and orders alternatives as they would.
#include <cmath>
#include <fstream>
#include <sstream>

#include "check.h"

namespace {

emulator::Report run(const std::function<void(Kit&)>& body, emulator::Options options = {},
                     int blocks = 1) {
  World world;
  return emulator::launch(world.gm, options, blocks, [&] {
    Kit kit(world);
    body(kit);
  });
}

double cycles(const std::function<void(Kit&)>& body, emulator::Options options = {}) {
  return run(body, options).modelled_cycles;
}

double per_call(const std::function<void(Kit&)>& call, emulator::Options options = {}) {
  const auto repeat = [&](int n) {
    return cycles(
        [&](Kit& k) {
          for (int i = 0; i < n; ++i) call(k);
        },
        options);
  };
  return (repeat(1100) - repeat(100)) / 1000;
}

TEST(dependent_additions_take_what_was_measured) {
  // 64 repeats: 88 cycles each, from the vendor's sample.
  const double each = per_call([](Kit& k) {
    Adds(k.x, k.x, 1.0f, 64, 64, {1, 1, 0, 0});
    PipeBarrier<PIPE_V>();
  });
  CHECK(std::fabs(each - 88) < 1);
}

TEST(small_copies_take_what_was_measured) {
  emulator::Options options;
  const double single = per_call(
      [](Kit& k) { DataCopyPad(k.x, k.in, {1, 128, 0, 0, 0}, {false, 0, 0, 0}); }, options);
  CHECK(std::fabs(single - 20.6) < 0.1);
  const double rows = per_call(
      [](Kit& k) { DataCopyPad(k.x, k.in, {32, 128, 0, 0, 0}, {false, 0, 0, 0}); }, options);
  CHECK(std::fabs(rows / 32 - 8.3) < 0.5);
}

TEST(large_copies_run_at_the_shared_bandwidth) {
  // 48 cores share L2: 5.2 TB/s at 1850 MHz are 58.6 bytes per cycle and core.
  World world;
  std::vector<float> values(48 * 4096, 1.0f);
  float* in = world.gm.upload(values, "tensor");
  const auto time = [&](int copies, int cores) {
    return emulator::launch(world.gm, {}, cores,
                            [&] {
                              TPipe pipe;
                              TBuf<TPosition::VECCALC> buffer;
                              pipe.InitBuffer(buffer, 16384);
                              GlobalTensor<float> from;
                              from.SetGlobalBuffer(in);
                              for (int i = 0; i < copies; ++i) {
                                DataCopy(buffer.Get<float>(), from[4096 * GetBlockIdx()], 4096);
                                PipeBarrier<PIPE_MTE2>();
                              }
                            })
        .modelled_cycles;
  };
  emulator::CostModel model;
  const double all = (time(20, 48) - time(10, 48)) / 10 - model.dma_latency;
  const double alone = (time(20, 1) - time(10, 1)) / 10 - model.dma_latency;
  CHECK(std::fabs(16384 / all - 58.6) < 0.5);
  CHECK(std::fabs(16384 / alone - model.l2_read_rate) < 0.5);
}

TEST(latency_is_exposed_by_waiting_and_hidden_by_streaming) {
  for (double latency : {0.0, 500.0, 1000.0}) {
    emulator::Options options;
    options.cost.dma_latency = latency;
    const double waiting = per_call(
        [](Kit& k) {
          DataCopy(k.x, k.in, 32);
          k.sync<HardEvent::MTE2_S>();
        },
        options);
    CHECK(waiting >= latency + 20 && waiting < latency + 60);
    const double streaming = per_call([](Kit& k) { DataCopy(k.x, k.in, 32); }, options);
    CHECK(std::fabs(streaming - 20.6) < 0.1);
  }
}

TEST(double_buffering_overlaps_copies_and_computation) {
  const auto loop = [](Kit& k, int buffers) {
    for (int b = 0; b < buffers; ++b) SetFlag<HardEvent::V_MTE2>(b);
    for (int i = 0; i < 400; ++i) {
      const int b = i % buffers;
      WaitFlag<HardEvent::V_MTE2>(b);
      DataCopy(k.x[512 * b], k.in, 512);
      SetFlag<HardEvent::MTE2_V>(b);
      WaitFlag<HardEvent::MTE2_V>(b);
      for (int n = 0; n < 16; ++n) Adds(k.y, k.x[512 * b], 1.0f, 512);
      SetFlag<HardEvent::V_MTE2>(b);
    }
    for (int b = 0; b < buffers; ++b) WaitFlag<HardEvent::V_MTE2>(b);
  };
  const double one = cycles([&](Kit& k) { loop(k, 1); }), two = cycles([&](Kit& k) { loop(k, 2); });
  CHECK(two < 0.75 * one);
}

TEST(sharing_a_bank_group_costs) {
  const auto add = [](int distance) {
    return per_call([=](Kit& k) { Add(k.z, k.x, k.x[distance], 64, 8, {1, 1, 1, 8, 8, 8}); });
  };
  CHECK(add(128) > add(64) + 7);  // 512 bytes apart: the same group; 256: another
}

TEST(counters_count) {
  const emulator::Report report = run(
      [](Kit& k) {
        DataCopyPad(k.x, k.in, {4, 100, 0, 0, 0}, {false, 0, 0, 0});
        k.sync<HardEvent::MTE2_V>();
        Adds(k.y, k.x, 1.0f, 25);
        Duplicate(k.z, 1.0f, 64, 10, 1, 8);
        Duplicate(k.z, 1.0f, 700);
        k.sync<HardEvent::V_MTE3>();
        DataCopy(k.out, k.z, 640);
        k.x.GetValue(0);
      },
      {}, 2);
  const auto mte2 = report.total(emulator::Pipe::MTE2), v = report.total(emulator::Pipe::V),
             mte3 = report.total(emulator::Pipe::MTE3), s = report.total(emulator::Pipe::S);
  CHECK(mte2.instructions == 2 && mte2.rows == 8 && mte2.bytes == 800);
  CHECK(v.instructions == 6 && v.repeats == 2 * (1 + 10 + 11));
  CHECK(mte3.instructions == 2 && mte3.bytes == 2 * 2560);
  CHECK(s.instructions == 2);
  CHECK(report.modelled_cycles >= report.cores[0].cycles);
}

TEST(sync_all_waits_for_the_slowest) {
  World world;
  const emulator::Report report = emulator::launch(world.gm, {}, 2, [&] {
    Kit k(world);
    if (GetBlockIdx() == 0) {
      for (int i = 0; i < 1000; ++i) Duplicate(k.x, 0.0f, 1024);
    }
    SyncAll();
  });
  CHECK(std::fabs(report.cores[0].cycles - report.cores[1].cycles) < 1);
  CHECK(report.cores[1].cycles > 16000);
}

TEST(blocks_wait_for_a_free_core) {
  World world;
  emulator::Options options;
  options.cores = 2;
  const auto kernel = [&] {
    Kit k(world);
    for (int i = 0; i < 100; ++i) Duplicate(k.x, 0.0f, 1024);
  };
  const double two = emulator::launch(world.gm, options, 2, kernel).modelled_cycles;
  const double five = emulator::launch(world.gm, options, 5, kernel).modelled_cycles;
  CHECK(std::fabs(five / two - 3) < 0.01);
}

TEST(time_does_not_depend_on_the_order_of_execution) {
  const auto body = [](Kit& k) {
    DataCopy(k.x, k.in, 512);
    k.sync<HardEvent::MTE2_V>();
    Adds(k.y, k.x, 1.0f, 512);
    k.sync<HardEvent::V_MTE3>();
    DataCopy(k.out, k.y, 512);
  };
  emulator::Options options;
  options.seed = 3;
  CHECK(cycles(body) == cycles(body, options));
}

TEST(cold_cache_is_slower) {
  emulator::Options cold;
  cold.cost.cold_l2 = true;
  const auto load = [](Kit& k) { DataCopy(k.x, k.in, 1024); };
  CHECK(cycles(load, cold) > cycles(load) + 50);
}

// Cycles for each further round in which every core goes through `bytes` of GM of its own, which are
// in use with as much again as there is of L2.
double round_cycles(uint32_t bytes, int cores, bool atomic = false) {
  constexpr uint32_t kCopy = 4096, kL2 = 65536;
  emulator::Gm gm;
  auto* memory = gm.upload(std::vector<float>(cores * bytes / 4, 1.0f), "tensor");
  gm.allocate(2 * kL2 - cores * bytes, "not touched");
  emulator::Options options;
  options.cost.l2_bytes = kL2;
  const auto time = [&](uint32_t rounds) {
    return emulator::launch(gm, options, cores,
                            [&] {
                              TPipe pipe;
                              TBuf<TPosition::VECCALC> buffer;
                              pipe.InitBuffer(buffer, kCopy);
                              const auto x = buffer.Get<float>();
                              GlobalTensor<float> own;
                              own.SetGlobalBuffer(memory + bytes / 4 * GetBlockIdx());
                              if (atomic) SetAtomicAdd<float>();
                              for (uint32_t at = 0; at < rounds * bytes; at += kCopy) {
                                const auto place = own[at % bytes / 4];
                                if (atomic) {
                                  DataCopy(place, x, kCopy / 4);
                                } else {
                                  DataCopy(x, place, kCopy / 4);
                                }
                              }
                              if (atomic) SetAtomicNone();
                            })
        .modelled_cycles;
  };
  return (time(4) - time(2)) / 2;  // the first round brings in what a core's share holds
}

TEST(what_l2_does_not_hold_comes_from_hbm) {
  const emulator::CostModel model;
  const double hbm = 49152 / model.hbm_read_rate;
  CHECK(std::fabs(round_cycles(98304, 1) - hbm - 49152 / model.l2_read_rate) < 10);
  CHECK(std::fabs(round_cycles(98304, 1, true) - 2 * hbm) < 10);
}

TEST(what_a_core_has_just_used_is_in_its_share_of_l2) {
  const emulator::CostModel model;
  const double half = 49152 / 2 / model.l2_read_rate + 49152 / 2 / model.hbm_read_rate;
  CHECK(std::fabs(round_cycles(32768, 2) - 32768 / model.l2_read_rate) < 10);
  CHECK(std::fabs(round_cycles(49152, 2) - half) < 10);
}

TEST(setting_memory_takes_the_time_of_writing_it) {
  const emulator::CostModel model;
  constexpr uint64_t kBytes = 96 << 20;
  const double in_l2 = kBytes / 5.2e6, in_hbm = kBytes / 1.8e6;
  CHECK(std::fabs(model.set_microseconds(kBytes, model.l2_bytes) - in_l2) < 1e-6);
  CHECK(std::fabs(model.set_microseconds(kBytes, 4 * model.l2_bytes) -
                  (0.25 * in_l2 + 0.75 * in_hbm)) < 1e-6);
}

TEST(trace_has_every_instruction) {
  emulator::Options options;
  options.trace = true;
  const emulator::Report report = run(
      [](Kit& k) {
        DataCopy(k.x, k.in, 512);
        k.sync<HardEvent::MTE2_V>();
        for (int i = 0; i < 3; ++i) Adds(k.y, k.x, 1.0f, 512);
      },
      options);
  CHECK(report.trace.size() == 4);
  for (const auto& event : report.trace) CHECK(event.end > event.begin && event.begin > 0);
  const char* path = "emulator_trace.json";
  report.write_trace(path);
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  std::remove(path);
  CHECK(text.str().find("\"name\":\"Adds\"") != std::string::npos);
  CHECK(text.str().find("modelled, not measured") != std::string::npos);
}

}  // namespace

int main() { return run_tests(); }
