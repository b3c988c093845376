// For every rule a kernel that breaks it, in the lines that the finding must name, and one that
// keeps it.
#include "check.h"

namespace {

int lines[3];
#define AT(k) lines[k] = __LINE__;

using Body = std::function<void(Kit&)>;

emulator::Report run(const Body& body, emulator::Options options = {}, int blocks = 1) {
  World world;
  return emulator::launch(world.gm, options, blocks, [&] {
    Kit kit(world);
    body(kit);
  });
}

emulator::Options manual() {
  emulator::Options options;
  options.automatic_sync = false;
  return options;
}

// The finding has the rule, its site the line AT(1), and its other site the line AT(0) if used.
void breaks(const char* rule, const Body& body, emulator::Options options = manual(),
            int blocks = 1, emulator::Severity severity = emulator::Severity::error) {
  lines[0] = lines[1] = 0;
  const emulator::Report report = run(body, options, blocks);
  bool found = false;
  for (const emulator::Finding& f : report.findings) {
    found = found || (f.rule == rule && f.severity == severity && f.site.line == lines[1] &&
                      (lines[0] == 0 || f.other.line == lines[0]));
  }
  if (!found)
    std::printf("expected %s at line %d and %d, got:\n%s", rule, lines[1], lines[0],
                report.text().c_str());
  CHECK(found);
}

void unspecified(const char* rule, const Body& body, emulator::Options options = manual(),
                 int blocks = 1) {
  breaks(rule, body, options, blocks, emulator::Severity::unspecified);
}

void keeps(const Body& body, emulator::Options options = manual(), int blocks = 1) {
  const emulator::Report report = run(body, options, blocks);
  if (!report.clean()) std::printf("expected no finding, got:\n%s", report.text().c_str());
  CHECK(report.clean());
}

template <class... Kernels>
void keeps_in_every_order(const Body& body, int blocks = 1) {
  for (uint64_t seed : {0, 1, 2, 3}) {
    for (bool automatic : {false, true}) {
      emulator::Options options;
      options.seed = seed;
      options.automatic_sync = automatic;
      keeps(body, options, blocks);
    }
  }
}

// ---- missing synchronisation: read after write, write after read, write after write

template <HardEvent kEvent>
void flag(Kit& k) {
  k.sync<kEvent>();
}

template <pipe_t kPipe>
void barrier(Kit&) {
  PipeBarrier<kPipe>();
}

void nothing(Kit&) {}

// x may be stored.
void fill(Kit& k) {
  Duplicate(k.x, 1.0f, 64);
  k.sync<HardEvent::V_MTE3>();
}

// Who keeps two instructions in order where synchronisation is automatic.
enum Keeper { kProgrammer, kCompiler };

// A kernel that breaks the rule unless `order` stands between the two lines that it names.
void needs_order(const char* rule, Keeper keeper, const Body& order,
                 const std::function<void(Kit&, const Body&)>& kernel) {
  const Body broken = [&](Kit& k) { kernel(k, nothing); };
  breaks(rule, broken);
  if (keeper == kCompiler) {
    keeps(broken, {});
  } else {
    breaks(rule, broken, {});
  }
  keeps_in_every_order([&](Kit& k) { kernel(k, order); });
}

TEST(raw_from_gm_to_vector) {
  needs_order("raw", kProgrammer, flag<HardEvent::MTE2_V>, [](Kit& k, const Body& order) {
    AT(0) DataCopy(k.x, k.in, 64);
    order(k);
    AT(1) Adds(k.y, k.x, 1.0f, 64);
  });
}

TEST(raw_from_vector_to_gm) {
  needs_order("raw", kProgrammer, flag<HardEvent::V_MTE3>, [](Kit& k, const Body& order) {
    AT(0) Duplicate(k.x, 1.0f, 64);
    order(k);
    AT(1) DataCopy(k.out, k.x, 64);
  });
}

TEST(raw_within_the_vector_pipe) {
  needs_order("raw", kCompiler, barrier<PIPE_V>, [](Kit& k, const Body& order) {
    AT(0) Duplicate(k.x, 1.0f, 64);
    order(k);
    AT(1) Adds(k.y, k.x, 1.0f, 64);
  });
}

TEST(raw_from_vector_to_scalar) {
  needs_order("raw", kCompiler, flag<HardEvent::V_S>, [](Kit& k, const Body& order) {
    AT(0) Duplicate(k.x, 1.0f, 64);
    order(k);
    AT(1) k.x.GetValue(3);
  });
  keeps_in_every_order([](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    k.sync<HardEvent::V_S>();
    CHECK(k.x.GetValue(3) == 1.0f);
  });
}

TEST(raw_from_scalar_to_vector) {
  const Body broken = [](Kit& k) {
    for (int i = 0; i < 8; ++i) {
      AT(0) k.x.SetValue(i, 1.0f);
    }
    AT(1) Adds(k.y, k.x, 1.0f, 8);
  };
  breaks("raw", broken);
  keeps(broken, {});
}

TEST(raw_of_what_this_core_stored) {
  needs_order("raw", kProgrammer, flag<HardEvent::MTE3_MTE2>, [](Kit& k, const Body& order) {
    fill(k);
    AT(0) DataCopy(k.out, k.x, 64);
    order(k);
    AT(1) DataCopy(k.y, k.out, 64);
  });
}

TEST(war_refill_while_vector_reads) {
  needs_order("war", kProgrammer, flag<HardEvent::V_MTE2>, [](Kit& k, const Body& order) {
    DataCopy(k.x, k.in, 64);
    k.sync<HardEvent::MTE2_V>();
    AT(0) Adds(k.y, k.x, 1.0f, 64);
    order(k);
    AT(1) DataCopy(k.x, k.in[64], 64);
  });
}

TEST(war_overwrite_while_storing) {
  needs_order("war", kProgrammer, flag<HardEvent::MTE3_V>, [](Kit& k, const Body& order) {
    fill(k);
    AT(0) DataCopy(k.out, k.x, 64);
    order(k);
    AT(1) Duplicate(k.x, 2.0f, 64);
  });
}

TEST(war_in_gm) {
  needs_order("war", kProgrammer, flag<HardEvent::MTE2_MTE3>, [](Kit& k, const Body& order) {
    Duplicate(k.y, 1.0f, 64);
    k.sync<HardEvent::V_MTE3>();
    AT(0) DataCopy(k.x, k.out, 64);
    order(k);
    AT(1) DataCopy(k.out, k.y, 64);
  });
}

TEST(waw_of_two_loads) {
  needs_order("waw", kProgrammer, barrier<PIPE_MTE2>, [](Kit& k, const Body& order) {
    AT(0) DataCopy(k.x, k.in, 64);
    order(k);
    AT(1) DataCopy(k.x[32], k.in[64], 64);
  });
}

TEST(waw_of_two_stores) {
  needs_order("waw", kProgrammer, barrier<PIPE_MTE3>, [](Kit& k, const Body& order) {
    fill(k);
    AT(0) DataCopy(k.out, k.x, 64);
    order(k);
    AT(1) DataCopy(k.out[8], k.x, 8);
  });
}

TEST(waw_lanes_that_a_mask_leaves_out_do_not_count) {
  keeps([](Kit& k) {
    Duplicate(k.x, 1.0f, 32, 1, 1, 8);
    uint64_t upper[2] = {0xFFFFFFFF00000000ull, 0};
    Duplicate(k.x, 2.0f, upper, 1, 1, 8);
    Duplicate(k.y, 2.0f, 3, 1, 1, 8);
    uint64_t fourth[2] = {8, 0};
    Duplicate(k.y, 2.0f, fourth, 1, 1, 8);
  });
}

TEST(a_chain_of_flags_carries_knowledge) {
  keeps_in_every_order([](Kit& k) {
    DataCopy(k.x, k.in, 64);
    k.sync<HardEvent::MTE2_V>();
    Adds(k.y, k.x, 1.0f, 64);
    k.sync<HardEvent::V_MTE3>();
    DataCopy(k.out, k.y, 64);  // V is done, so MTE2 was done before it
    k.sync<HardEvent::MTE3_MTE2>();
    DataCopy(k.x, k.in[64], 64);  // and here V has read x
  });
  breaks("war", [](Kit& k) {
    DataCopy(k.x, k.in, 64);
    k.sync<HardEvent::MTE2_V>();
    Duplicate(k.y, 0.0f, 64);
    k.sync<HardEvent::V_MTE3>();
    DataCopy(k.out, k.y, 64);
    AT(0) Adds(k.z, k.x, 1.0f, 64);  // after the flag that the chain starts with
    k.sync<HardEvent::MTE3_MTE2>();
    AT(1) DataCopy(k.x, k.in[64], 64);
  });
}

TEST(pipe_all_orders_everything) {
  keeps_in_every_order([](Kit& k) {
    DataCopy(k.x, k.in, 64);
    PipeBarrier<PIPE_ALL>();
    Adds(k.y, k.x, 1.0f, 64);
    PipeBarrier<PIPE_ALL>();
    DataCopy(k.out, k.y, 64);
    PipeBarrier<PIPE_ALL>();
    CHECK(k.y.GetValue(5) == 6.0f);
  });
}

// ---- flags

TEST(flag_repeated) {
  breaks("flag-repeated", [](Kit&) {
    AT(0) SetFlag<HardEvent::MTE2_V>(0);
    AT(1) SetFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(0);
  });
  keeps_in_every_order([](Kit&) {
    SetFlag<HardEvent::MTE2_V>(0);
    SetFlag<HardEvent::MTE2_V>(1);
    WaitFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(1);
  });
}

TEST(flag_early) {
  breaks("flag-early", [](Kit&) {
    SetFlag<HardEvent::MTE2_V>(0);
    AT(0) WaitFlag<HardEvent::MTE2_V>(0);
    AT(1) SetFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(0);
  });
  breaks("flag-early", [](Kit&) {
    SetFlag<HardEvent::S_MTE2>(0);
    AT(0) WaitFlag<HardEvent::S_MTE2>(0);
    AT(1) SetFlag<HardEvent::S_MTE2>(0);
    WaitFlag<HardEvent::S_MTE2>(0);
  });
  keeps_in_every_order([](Kit&) {
    for (int i = 0; i < 3; ++i) {
      SetFlag<HardEvent::MTE2_V>(0);
      WaitFlag<HardEvent::MTE2_V>(0);
      SetFlag<HardEvent::V_MTE2>(0);
      WaitFlag<HardEvent::V_MTE2>(0);
    }
  });
  keeps_in_every_order(
      [](Kit&) {  // whatever waits for the scalar unit is dispatched after its wait
        for (int i = 0; i < 3; ++i) {
          SetFlag<HardEvent::V_S>(0);
          WaitFlag<HardEvent::V_S>(0);
        }
      });
  keeps_in_every_order([](Kit&) {
    for (int i = 0; i < 3; ++i) {
      SetFlag<HardEvent::MTE2_V>(0);
      WaitFlag<HardEvent::MTE2_V>(0);
      PipeBarrier<PIPE_ALL>();
    }
  });
}

TEST(flag_never_set) {
  breaks("flag-never-set", [](Kit&) { AT(1) WaitFlag<HardEvent::MTE2_V>(0); });
  breaks("flag-never-set", [](Kit&) {
    SetFlag<HardEvent::MTE2_V>(1);
    AT(1) WaitFlag<HardEvent::MTE2_V>(0);
  });
  keeps([](Kit&) {
    SetFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(0);
  });
}

TEST(flag_left_set) {
  breaks("flag-left-set", [](Kit&) { AT(1) SetFlag<HardEvent::MTE2_V>(0); });
  keeps([](Kit&) {
    SetFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(0);
  });
}

TEST(event_illegal) {
  breaks("event-illegal", [](Kit&) {
    AT(1) SetFlag<HardEvent::V_V>(0);
    WaitFlag<HardEvent::V_V>(0);
  });
  keeps([](Kit& k) { k.sync<HardEvent::V_MTE3>(); });
}

TEST(event_id_range) {
  breaks("event-id-range", [](Kit&) { AT(1) SetFlag<HardEvent::MTE2_V>(8); });
  breaks("event-id-range", [](Kit&) { AT(1) WaitFlag<HardEvent::MTE2_V>(-1); });
  keeps([](Kit&) {
    for (int id = 0; id < 6; ++id) SetFlag<HardEvent::MTE2_V>(id);
    for (int id = 0; id < 6; ++id) WaitFlag<HardEvent::MTE2_V>(id);
  });
}

TEST(event_id_reserved) {
  unspecified("event-id-reserved", [](Kit&) {
    AT(1) SetFlag<HardEvent::MTE2_V>(6);
    WaitFlag<HardEvent::MTE2_V>(6);
  });
  keeps([](Kit& k) {  // but for those who are given it
    TEventID id = 0;
    while (id < 6) id = k.pipe.AllocEventID<HardEvent::MTE2_V>();
    SetFlag<HardEvent::MTE2_V>(id);
    WaitFlag<HardEvent::MTE2_V>(id);
  });
}

TEST(event_ids) {
  breaks("event-ids", [](Kit& k) {
    for (int i = 0; i < 9; ++i) {
      AT(1) k.pipe.AllocEventID<HardEvent::MTE2_V>();
    }
  });
  breaks("event-ids", [](Kit& k) { AT(1) k.pipe.ReleaseEventID<HardEvent::MTE2_V>(3); });
  keeps_in_every_order([](Kit& k) {
    const TEventID first = k.pipe.AllocEventID<HardEvent::MTE2_V>();
    const TEventID second = k.pipe.FetchEventID<HardEvent::MTE2_V>();
    CHECK(first == 0 && second == 1 && k.pipe.FetchEventID(HardEvent::MTE2_V) == 1);
    SetFlag<HardEvent::MTE2_V>(first);
    WaitFlag<HardEvent::MTE2_V>(first);
    k.pipe.ReleaseEventID<HardEvent::MTE2_V>(first);
    CHECK(k.pipe.FetchEventID<HardEvent::MTE2_V>() == 0);
  });
}

TEST(deadlock) {
  // Waits for a flag that nobody sets, in the order of the hardware.
  emulator::Options options = manual();
  options.seed = 1;
  const emulator::Report report = run([](Kit&) { WaitFlag<HardEvent::V_S>(0); }, options);
  keeps([](Kit& k) { k.sync<HardEvent::V_S>(); }, options);
  CHECK(report.has("deadlock") && report.has("flag-never-set"));
  // Some cores never come to the meeting.
  const emulator::Report missing = run(
      [](Kit&) {
        if (GetBlockIdx() == 0) SyncAll();
      },
      manual(), 2);
  CHECK(missing.has("deadlock"));
  keeps_in_every_order([](Kit&) { SyncAll(); }, 3);
}

// ---- UB

TEST(ub_uninitialised) {
  breaks("ub-uninitialised", [](Kit& k) { AT(1) Adds(k.y, k.x, 1.0f, 64); });
  breaks("ub-uninitialised", [](Kit& k) {
    Duplicate(k.x, 0.0f, 63);
    PipeBarrier<PIPE_V>();
    AT(1) Adds(k.y, k.x, 1.0f, 64);
  });
  breaks("ub-uninitialised", [](Kit& k) { AT(1) k.x.GetValue(0); });
  keeps([](Kit& k) {
    Duplicate(k.x, 0.0f, 63);
    PipeBarrier<PIPE_V>();
    Adds(k.y, k.x, 1.0f, 63);
  });
}

TEST(ub_dummy) {
  const auto load = [](Kit& k, bool pad, int right) {
    DataCopyPad(k.x, k.in, {1, 5 * sizeof(float), 0, 0, 0},
                {pad, 0, static_cast<uint8_t>(right), 0.0f});
    k.sync<HardEvent::MTE2_V>();
  };
  unspecified("ub-dummy", [&](Kit& k) {
    load(k, false, 0);
    AT(1) Adds(k.y, k.x, 1.0f, 8);
  });
  unspecified("ub-dummy", [&](Kit& k) {
    load(k, true, 2);
    AT(1) Adds(k.y, k.x, 1.0f, 8);
  });
  keeps([&](Kit& k) {
    load(k, false, 0);
    Adds(k.y, k.x, 1.0f, 5);
  });
  keeps([&](Kit& k) {
    load(k, true, 3);
    Adds(k.y, k.x, 1.0f, 8);
  });
}

TEST(ub_alignment) {
  breaks("ub-alignment", [](Kit& k) { AT(1) Duplicate(k.x[4], 0.0f, 64); });
  breaks("ub-alignment", [](Kit& k) {
    AT(1) DataCopyPad(k.x[1], k.in, {1, 4, 0, 0, 0}, {false, 0, 0, 0});
  });
  keeps([](Kit& k) { Duplicate(k.x[8], 0.0f, 64); });
  keeps([](Kit& k) {  // a sum needs no more than its own alignment
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    WholeReduceSum<float>(k.y[1], k.x, 64, 1, 1, 1, 8);
  });
}

TEST(ub_bounds) {
  breaks("ub-bounds", [](Kit& k) { AT(1) Duplicate(k.x, 0.0f, kElements + 1); });
  breaks("ub-bounds", [](Kit& k) { AT(1) Duplicate(k.x[kElements - 64], 0.0f, 64, 2, 1, 8); });
  breaks("ub-bounds", [](Kit& k) { AT(1) k.x.SetValue(kElements, 0.0f); });
  breaks("ub-bounds", [](Kit& k) { AT(1) k.buffer.Get<float>(3 * kElements + 1); });
  breaks("ub-bounds", [](Kit& k) { AT(1) DataCopy(k.z[kElements - 8], k.in, 16); });
  keeps([](Kit& k) { Duplicate(k.x[kElements - 64], 0.0f, 64, 1, 1, 8); });
  const emulator::Report beyond = run([](Kit&) {  // what lies there is not looked at
    const LocalTensor<float> end(TPosition::VECCALC, 192 * 1024 - 512, 1 << 20);
    Adds(end[64], end, 1.0f, 64, 4, {1, 1, 8, 8});
  });
  CHECK(beyond.has("ub-bounds") && !beyond.has("overlap-repeats"));
}

TEST(ub_overflow) {
  const auto take = [](Kit& k, uint32_t total) {
    TBuf<TPosition::VECCALC> more;
    AT(1) k.pipe.InitBuffer(more, total - 3 * kElements * sizeof(float));
  };
  emulator::Options without = manual();
  without.reserve_scratch = false;
  breaks("ub-overflow", [&](Kit& k) { take(k, 188160 + 32); });
  keeps([&](Kit& k) { take(k, 188160); });
  breaks("ub-overflow", [&](Kit& k) { take(k, 196352 + 32); }, without);
  keeps([&](Kit& k) { take(k, 196352); }, without);
  unspecified("ub-empty-buffer", [](Kit& k) {
    TBuf<TPosition::VECCALC> empty;
    AT(1) k.pipe.InitBuffer(empty, 0);
  });
  breaks("buffer-count", [](Kit& k) {
    for (int i = 0; i < 64; ++i) {
      TBuf<TPosition::VECCALC> one;
      AT(1) k.pipe.InitBuffer(one, 32);
    }
  });
  keeps([](Kit& k) {
    for (int i = 1; i < 64; ++i) {
      TBuf<TPosition::VECCALC> one;
      k.pipe.InitBuffer(one, 32);
    }
  });
}

// ---- GM

TEST(gm_bounds) {
  breaks("gm-bounds", [](Kit& k) { AT(1) DataCopy(k.x, k.in[4 * kElements - 8], 16); });
  breaks("gm-bounds", [](Kit& k) {
    Duplicate(k.x, 0.0f, 8);
    k.sync<HardEvent::V_MTE3>();
    AT(1) DataCopyPad(k.out[4 * kElements - 1], k.x, {1, 8, 0, 0, 0});
  });
  keeps(
      [](Kit& k) { DataCopyPad(k.x, k.in[4 * kElements - 1], {1, 4, 0, 0, 0}, {false, 0, 0, 0}); });
}

TEST(what_is_inside_is_copied_and_what_is_not_is_one_finding) {
  World world;
  emulator::Options options = manual();
  const emulator::Report report = emulator::launch(world.gm, options, 1, [&] {
    Kit k(world);
    Duplicate(k.x, 7.0f, 256);
    k.sync<HardEvent::V_MTE2>();
    DataCopy(k.x, k.in[4 * kElements - 64], 128);
    k.sync<HardEvent::MTE2_V>();
    Adds(k.y, k.x, 1.0f, 128);
    k.sync<HardEvent::V_MTE3>();
    DataCopy(k.out, k.y, 64);
  });
  CHECK(report.findings.size() == 1 && report.findings[0].rule == "gm-bounds");
  CHECK(report.findings[0].message ==
        "DataCopy reads 512 bytes from byte 16128 of in on, which has 16384");
  for (int i = 0; i < 64; ++i) CHECK(world.out[i] == world.in[4 * kElements - 64 + i] + 1);
  const emulator::Report before =
      run([](Kit& k) { DataCopyPad(k.x, k.in[-8], {1, 64, 0, 0, 0}, {false, 0, 0, 0}); }, manual());
  CHECK(before.findings.size() == 1);
  CHECK(before.findings[0].message ==
        "DataCopyPad reads 64 bytes from 32 bytes in front of in on, which has 16384");
}

TEST(what_lies_in_front_of_an_allocation_is_not_read) {
  run(
      [](Kit& k) {  // the padding would repeat the first element
        DataCopyPad(k.x, k.in[-2], {1, 12, 0, 0, 0}, {false, 0, 0, 0});
        k.sync<HardEvent::MTE2_S>();
        CHECK(k.x.ReinterpretCast<uint32_t>().GetValue(3) == 0xFBFBFBFB);
      },
      manual());
}

TEST(gm_slack) {
  const auto load = [](Kit& k, uint32_t bytes) {
    AT(1) DataCopyPad(k.x, k.in[4 * kElements - 8], {1, bytes, 0, 0, 0}, {false, 0, 0, 0});
  };
  emulator::Options slack = manual();
  slack.gm_slack = 32;
  unspecified("gm-slack", [&](Kit& k) { load(k, 64); }, slack);
  breaks("gm-bounds", [&](Kit& k) { load(k, 64); });
  breaks("gm-bounds", [&](Kit& k) { load(k, 68); }, slack);
  keeps([&](Kit& k) { load(k, 32); }, slack);
  keeps([&](Kit& k) { load(k, 32); });
}

TEST(gm_unallocated) {
  static float elsewhere[64];
  breaks("gm-unallocated", [](Kit& k) {
    k.in.SetGlobalBuffer(elsewhere);
    AT(1) DataCopy(k.x, k.in, 64);
  });
  breaks("gm-unallocated", [](Kit& k) {
    k.in.SetGlobalBuffer(nullptr);
    AT(1) DataCopy(k.x, k.in, 64);
  });
  keeps([](Kit& k) {
    k.in.SetGlobalBuffer(k.out.GetPhyAddr());
    DataCopy(k.x, k.in, 64);
  });
}

TEST(gm_released) {
  for (const bool apart : {false, true}) {
    emulator::Gm gm(apart);
    float* gone = gm.upload(std::vector<float>(64, 1.0f), "gone");
    float* kept = gm.upload(std::vector<float>(64, 2.0f), "kept");
    const auto loads = [&](float* from) {
      return emulator::launch(gm, {}, 1, [&] {
        TPipe pipe;
        TBuf<TPosition::VECCALC> buffer;
        pipe.InitBuffer(buffer, 256);
        GlobalTensor<float> in;
        in.SetGlobalBuffer(from);
        DataCopy(buffer.Get<float>(), in, 64);
      });
    };
    CHECK(loads(gone).clean());
    gm.release(gone);
    CHECK(loads(gone).has("gm-released"));
    CHECK(loads(kept).clean());
    const float* next = gm.upload(std::vector<float>(64, 3.0f), "next");
    CHECK(next != gone);
    CHECK(gm.download(next, 64)[63] == 3.0f);
  }
}

TEST(gm_uninitialised) {
  emulator::Gm gm;
  float* fresh = gm.allocate<float>(64, "fresh");
  float* zeros = gm.upload(std::vector<float>(64, 0.0f), "zeros");
  const auto kernel = [&](float* from) {
    return emulator::launch(gm, {}, 1, [&] {
      TPipe pipe;
      TBuf<TPosition::VECCALC> buffer;
      pipe.InitBuffer(buffer, 256);
      GlobalTensor<float> in;
      in.SetGlobalBuffer(from);
      AT(1) DataCopy(buffer.Get<float>(), in, 64);
    });
  };
  const emulator::Report report = kernel(fresh);
  CHECK(report.has("gm-uninitialised") && report.findings[0].site.line == lines[1]);
  CHECK(kernel(zeros).clean());
}

TEST(gm_alignment) {
  breaks("gm-alignment", [](Kit& k) {
    GlobalTensor<float> odd;
    odd.SetGlobalBuffer(
        reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(k.in.GetPhyAddr()) + 2));
    AT(1) DataCopy(k.x, odd, 8);
  });
  keeps([](Kit& k) { DataCopy(k.x, k.in[1], 8); });
}

TEST(gm_tensor_size) {
  const auto load = [](Kit& k, int from) {
    GlobalTensor<float> part;
    part.SetGlobalBuffer(k.in.GetPhyAddr(), 64);
    AT(1) DataCopy(k.x, part[from], 32);
  };
  breaks("gm-tensor-size", [&](Kit& k) { load(k, 40); });
  keeps([&](Kit& k) { load(k, 32); });
}

TEST(gm_race) {
  const auto store = [](Kit& k, int64_t offset, bool atomic) {
    Duplicate(k.x, 1.0f, 64);
    k.sync<HardEvent::V_MTE3>();
    if (atomic) SetAtomicAdd<float>();
    AT(1) DataCopy(k.out[offset], k.x, 64);
    SetAtomicNone();
  };
  breaks("gm-race", [&](Kit& k) { store(k, 0, false); }, manual(), 2);
  breaks("gm-race", [&](Kit& k) { store(k, 0, GetBlockIdx() == 0); }, manual(), 2);
  keeps([&](Kit& k) { store(k, 64 * GetBlockIdx(), false); }, manual(), 2);
  keeps([&](Kit& k) { store(k, 0, true); }, manual(), 4);
  const auto exchange = [&](Kit& k, bool meet) {
    store(k, 64 * GetBlockIdx(), false);
    if (meet) SyncAll();
    AT(1) DataCopy(k.y, k.out[64 * (1 - GetBlockIdx())], 64);
  };
  breaks("gm-race", [&](Kit& k) { exchange(k, false); }, manual(), 2);
  keeps_in_every_order([&](Kit& k) { exchange(k, true); }, 2);
  // Zeroing by one core and adding by others are not ordered either.
  breaks(
      "gm-race",
      [&](Kit& k) {
        if (GetBlockIdx() == 0) store(k, 0, false);
        PipeBarrier<PIPE_ALL>();
        store(k, 0, true);
      },
      manual(), 2);
}

TEST(notes_say_what_is_not_determined) {
  const emulator::Report report = run(
      [](Kit& k) {
        Duplicate(k.x, 1.0f, 64);
        k.sync<HardEvent::V_MTE3>();
        SetAtomicAdd<float>();
        DataCopy(k.out, k.x, 64);
        DataCopy(k.out, k.x, 64);
        SetAtomicNone();
        PipeBarrier<PIPE_MTE3>();
        DataCopyPad(k.out[1024 + 8 * GetBlockIdx()], k.x, {1, 16, 0, 0, 0});
      },
      manual(), 2);
  CHECK(report.clean() && report.notes.size() == 1);
}

TEST(gm_shared_block) {
  const auto store = [](Kit& k, int64_t offset, uint32_t bytes, bool atomic = false) {
    Duplicate(k.x, 1.0f, 64);
    k.sync<HardEvent::V_MTE3>();
    if (atomic) SetAtomicAdd<float>();
    AT(1) DataCopyPad(k.out[offset], k.x, {1, bytes, 0, 0, 0});
    SetAtomicNone();
  };
  // Parts of one block, whichever core comes first; also behind whole blocks, and in front of them.
  unspecified("gm-shared-block", [&](Kit& k) { store(k, 4 * GetBlockIdx(), 16); }, manual(), 2);
  unspecified("gm-shared-block", [&](Kit& k) { store(k, 4 - 4 * GetBlockIdx(), 16); }, manual(), 2);
  unspecified("gm-shared-block", [&](Kit& k) { store(k, 12 * GetBlockIdx(), 48); }, manual(), 2);
  unspecified(
      "gm-shared-block", [&](Kit& k) { store(k, 12 - 12 * GetBlockIdx(), 48); }, manual(), 2);
  keeps([&](Kit& k) { store(k, 16 * GetBlockIdx(), 48); }, manual(), 2);
  keeps([&](Kit& k) { store(k, 4 * GetBlockIdx(), 16, true); }, manual(), 2);
  keeps(
      [&](Kit& k) {  // by one of them before the meeting, by the other one after it
        if (GetBlockIdx() == 0) store(k, 0, 16);
        SyncAll();
        if (GetBlockIdx() == 1) store(k, 4, 16);
      },
      manual(), 2);
}

// ---- operands

TEST(overlap_partial) {
  breaks("overlap-partial", [](Kit& k) {
    Duplicate(k.x, 1.0f, 128);
    PipeBarrier<PIPE_V>();
    AT(1) Adds(k.x[8], k.x, 1.0f, 64);
  });
  keeps([](Kit& k) {
    Duplicate(k.x, 1.0f, 128);
    PipeBarrier<PIPE_V>();
    Adds(k.x, k.x, 1.0f, 128);
    PipeBarrier<PIPE_V>();
    Adds(k.x, k.x, 1.0f, 64, 2, {1, 1, 8, 8});
  });
}

TEST(overlap_repeats) {
  const auto add = [](Kit& k, bool as_second, int dst_stride) {
    Duplicate(k.x, 1.0f, 256);
    Duplicate(k.y, 1.0f, 256);
    PipeBarrier<PIPE_V>();
    const uint8_t stride = static_cast<uint8_t>(dst_stride);
    if (as_second) {
      AT(1) Add(k.x, k.y, k.x, 64, 4, {1, 1, 1, stride, 8, stride});
    } else {
      AT(1) Add(k.x, k.x, k.y, 64, 4, {1, 1, 1, stride, stride, 8});
    }
  };
  keeps([&](Kit& k) { add(k, true, 0); });  // the accumulator is the second source
  breaks("overlap-repeats", [&](Kit& k) { add(k, false, 0); });
  keeps([&](Kit& k) { add(k, false, 8); });
  breaks("overlap-repeats", [](Kit& k) {  // each repeat reads what the one before it wrote
    Duplicate(k.x, 1.0f, 320);
    PipeBarrier<PIPE_V>();
    AT(1) Adds(k.x[64], k.x, 1.0f, 64, 4, {1, 1, 8, 8});
  });
  breaks("overlap-repeats", [](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Brcb(k.x, k.x, 1, {1, 8});
  });
  breaks("overlap-repeats", [](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    Duplicate(k.y, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) MulAddDst(k.x, k.y, k.y, 64, 2, {1, 1, 1, 0, 0, 0});
  });
}

TEST(repeat_range) {
  breaks("repeat-range", [](Kit& k) { AT(1) Duplicate(k.x, 0.0f, 8, 256, 1, 0); });
  keeps([](Kit& k) { Duplicate(k.x, 0.0f, 8, 255, 1, 0); });
}

TEST(field_range) {
  breaks("field-range", [](Kit& k) {
    Duplicate(k.x, 0.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Adds(k.y, k.x, 1.0f, 64, 1, {1, 1, 256, 8});
  });
  breaks("field-range", [](Kit& k) { AT(1) DataCopy(k.x, k.in, DataCopyParams(1, 1, 65536, 0)); });
  breaks("field-range", [](Kit& k) {
    Duplicate(k.x, 0.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Copy(k.y, k.x, 64, 1, {1, 1, 4096, 8});
  });
  for (const int32_t stride : {-1, 65536}) {
    breaks("field-range", [=](Kit& k) {
      Duplicate(k.x, 0.0f, 128);
      PipeBarrier<PIPE_V>();
      AT(1) WholeReduceSum<float>(k.y, k.x, 64, 2, stride, 1, 8);
    });
  }
  breaks("field-range", [](Kit& k) {
    AT(1) DataCopyPad(k.x, k.in, {1, 2097152, 0, 0, 0}, {false, 0, 0, 0});
  });
  keeps([](Kit& k) {
    Duplicate(k.x, 0.0f, 64);
    PipeBarrier<PIPE_V>();
    Adds(k.y, k.x, 1.0f, 64, 1, {1, 1, 255, 8});
    Copy(k.y[64], k.x, 64, 1, {1, 1, 4095, 8});
    DataCopy(k.z, k.in, DataCopyParams(1, 1, 65535, 0));
  });
}

TEST(stride_zero) {
  unspecified("stride-zero", [](Kit& k) { AT(1) Duplicate(k.x, 0.0f, 64, 1, 0, 8); });
  keeps([](Kit& k) { Duplicate(k.x, 0.0f, 64, 1, 1, 8); });
}

TEST(mask_range) {
  breaks("mask-range", [](Kit& k) { AT(1) Duplicate(k.x, 0.0f, 65, 1, 1, 8); });
  keeps([](Kit& k) { Duplicate(k.x, 0.0f, 64, 1, 1, 8); });
}

// In counter mode the register is a number of elements, and a call's number of lanes becomes bits.
TEST(masks_in_counter_mode) {
  const auto fill = [](Kit& k, auto mask) {
    SetMaskCount();
    AT(1) Duplicate(k.x, 0.0f, mask, 1, 1, 8);
    SetMaskNorm();
    ResetMask();
  };
  breaks("mask-counter", [&](Kit& k) {
    Duplicate(k.x, 1.0f, 128);
    PipeBarrier<PIPE_V>();
    fill(k, uint64_t{6});
    k.sync<HardEvent::V_S>();
    CHECK(k.x.GetValue(62) == 0 && k.x.GetValue(63) == 1);  // bits 0 to 5, which are 63
  });
  uint64_t count[2] = {6, 0};
  keeps([&](Kit& k) { fill(k, count); });
}

TEST(counts_beyond_ub) {
  const auto muls = [](Kit& k, bool counted) {
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    SetMaskCount();
    if (counted) SetVectorMask<float, MaskMode::COUNTER>(64);
    AT(1) Muls<float, false>(k.y, k.x, 2.0f, MASK_PLACEHOLDER, 1, {1, 1, 8, 8});
    SetMaskNorm();
    ResetMask();
  };
  breaks("count-range", [&](Kit& k) { muls(k, false); });  // the full register
  keeps([&](Kit& k) { muls(k, true); });
  breaks("count-range", [](Kit& k) { AT(1) Duplicate(k.x, 0.0f, 1 << 30); });
  breaks("count-range", [](Kit& k) { AT(1) Sum(k.y, k.x, SumParams{1, 1u << 20, 1u << 20}); });
  for (const uint32_t mask : {0u, 0x40000001u}) {
    breaks("count-range", [=](Kit& k) {
      uint64_t kept = 0;
      AT(1) GatherMask(k.y, k.x, 1, true, mask, {1, 1, 8, 0}, kept);
    });
  }
  breaks("count-range", [](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Cast(k.y.ReinterpretCast<int32_t>(), k.x, RoundMode::CAST_RINT, 0x40000001u);
  });
}

TEST(mask_inherited) {
  const auto next = [](Kit& k) {
    AT(1) Duplicate<float, false>(k.y, 0.0f, MASK_PLACEHOLDER, 1, 1, 8);
  };
  unspecified("mask-inherited", [&](Kit& k) {
    Duplicate(k.x, 0.0f, 32, 1, 1, 8);
    next(k);
  });
  keeps([&](Kit& k) {
    Duplicate(k.x, 0.0f, 32, 1, 1, 8);
    ResetMask();
    next(k);
  });
  keeps([&](Kit& k) {  // the count form resets the mask
    Duplicate(k.x, 0.0f, 32);
    next(k);
  });
  unspecified("mask-inherited", [](Kit& k) {  // ... unless it is told not to touch it
    Duplicate(k.x, 0.0f, 32, 1, 1, 8);
    PipeBarrier<PIPE_V>();
    AT(1) Adds<float, false>(k.y, k.x, 1.0f, 64);
  });
}

TEST(masks_that_calls_leave_behind) {
  const auto compare = [](Kit& k) {
    AT(1) CompareScalar(k.z.ReinterpretCast<uint8_t>(), k.x, 0.5f, CMPMODE::GT, 64);
  };
  const std::vector<Body> leave_one = {
      [](Kit& k) {
        uint64_t kept;
        GatherMask(k.y, k.x, 1, false, 0, {1, 1, 8, 0}, kept);
      },
      [](Kit& k) { Adds(k.y, k.x, 1.0f, 32, 1, {1, 1, 8, 8}); },
      [](Kit& k) { WholeReduceSum<float>(k.y, k.x, 64, 1, 1, 1, 8); },
      [](Kit& k) { Gather(k.y, k.x, k.x.ReinterpretCast<uint32_t>(), 0, 70); },
      [](Kit& k) { Sum(k.y, k.x, SumParams{1, 256, 256}); },
  };
  const std::vector<Body> leave_all = {
      [](Kit& k) { Adds(k.y, k.x, 1.0f, 32); },
      [](Kit& k) { Sum(k.y, k.x, SumParams{1, 64, 64}); },
      [](Kit& k) { Brcb(k.y, k.x, 1, {1, 8}); },
      [](Kit& k) {
        const uint32_t to[] = {2, 8}, from[] = {2, 1};
        BroadCast<float, 2, 1>(k.y, k.x, to, from);
      },
      [](Kit&) {
        SetVectorMask<float>(3);
        ResetMask();
      },
  };
  const auto then_compare = [&](const Body& call) {
    return [&](Kit& k) {
      Duplicate(k.x, 0.0f, 256);
      PipeBarrier<PIPE_V>();
      call(k);
      compare(k);
    };
  };
  for (const Body& call : leave_one) unspecified("mask-inherited", then_compare(call));
  for (const Body& call : leave_all) keeps(then_compare(call));
  for (const Body& call : leave_one) {
    keeps(then_compare([&](Kit& k) {
      call(k);
      ResetMask();
    }));
  }
}

TEST(cast_range) {
  const auto cast = [](Kit& k, float value) {
    Duplicate(k.x, value, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Cast(k.y.ReinterpretCast<int32_t>(), k.x, RoundMode::CAST_RINT, 64);
  };
  for (const float value : {NAN, INFINITY, 2147483648.0f, -2147483904.0f}) {
    unspecified("cast-range", [&](Kit& k) { cast(k, value); });
    unspecified("cast-range", [&](Kit&) {
      AT(1) ScalarCast<float, int32_t, RoundMode::CAST_FLOOR>(value);
    });
  }
  for (const float value : {2147483520.0f, -2147483648.0f, -0.0f}) {
    keeps([&](Kit& k) { cast(k, value); });
  }
  keeps([](Kit& k) {  // to a float everything goes
    Duplicate(k.x, NAN, 64);
    PipeBarrier<PIPE_V>();
    Cast(k.y, k.x, RoundMode::CAST_FLOOR, 64);
  });
}

TEST(repeats_that_wrap) {
  const auto gather = [](uint32_t count) {
    World world;
    return emulator::launch(world.gm, manual(), 1, [&] {
      TPipe pipe;
      TBuf<TPosition::VECCALC> buffer;
      pipe.InitBuffer(buffer, 2 * 17000 * sizeof(float) + 64);
      const auto offsets = buffer.Get<uint32_t>(17000);
      const auto to = buffer.GetWithOffset<float>(17000, 17000 * sizeof(float));
      const auto from = buffer.GetWithOffset<float>(8, 2 * 17000 * sizeof(float));
      Duplicate(from, 1.0f, 8);
      Duplicate(offsets, 0u, 17000);
      PipeBarrier<PIPE_V>();
      Gather(to, from, offsets, 0, count);
    });
  };
  CHECK(gather(256 * 64).has("repeat-range"));
  CHECK(gather(255 * 64 + 63).clean());
}

TEST(mask_left_set) {
  breaks("mask-left-set", [](Kit&) { AT(1) SetVectorMask<float>(16); });
  breaks("mask-left-set", [](Kit&) { AT(1) SetMaskCount(); });
  keeps([](Kit&) {
    SetMaskCount();
    SetVectorMask<float, MaskMode::COUNTER>(100);
    SetMaskNorm();
    ResetMask();
  });
}

TEST(count_range) {
  breaks("count-range", [](Kit& k) { AT(1) Duplicate(k.x, 0.0f, -1); });
  keeps([](Kit& k) { Duplicate(k.x, 0.0f, 0); });
}

TEST(compare_rules) {
  const auto compare = [](Kit& k, int count) {
    Duplicate(k.x, 0.0f, 128);
    PipeBarrier<PIPE_V>();
    AT(1) CompareScalar(k.y.ReinterpretCast<uint8_t>(), k.x, 1.0f, CMPMODE::LT, count);
  };
  breaks("compare-count", [&](Kit& k) { compare(k, 100); });
  keeps([&](Kit& k) { compare(k, 128); });
  const auto integers = [](Kit& k, CMPMODE mode) {
    auto numbers = k.x.ReinterpretCast<int32_t>();
    Duplicate(numbers, 1, 64);
    PipeBarrier<PIPE_V>();
    AT(1) CompareScalar(k.y.ReinterpretCast<uint8_t>(), numbers, 1, mode, 64);
  };
  breaks("compare-type", [&](Kit& k) { integers(k, CMPMODE::LT); });
  keeps([&](Kit& k) { integers(k, CMPMODE::EQ); });
}

TEST(gather_bounds) {
  const auto gather = [](Kit& k, uint32_t offset) {
    auto offsets = k.y.ReinterpretCast<uint32_t>();
    Duplicate(k.x, 1.0f, kElements);
    Duplicate(offsets, offset, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Gather(k.z, k.x, offsets, 0, 64);
  };
  breaks("gather-bounds", [&](Kit& k) { gather(k, 4 * kElements); });
  breaks("gather-bounds", [&](Kit& k) { gather(k, 2); });
  keeps([&](Kit& k) { gather(k, 4 * kElements - 4); });
  uint64_t kept = 0;
  breaks("gather-pattern", [&](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) GatherMask(k.z, k.x, 8, false, 0, {1, 1, 8, 0}, kept);
  });
  keeps([&](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    GatherMask(k.z, k.x, 7, false, 0, {1, 1, 8, 0}, kept);
  });
}

TEST(cast_mode) {
  const auto cast = [](Kit& k, RoundMode mode) {
    Duplicate(k.x, 1.5f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Cast(k.y.ReinterpretCast<int32_t>(), k.x, mode, 64);
  };
  breaks("cast-mode", [&](Kit& k) {
    Duplicate(k.y, 3.0f, 64);
    cast(k, RoundMode::CAST_NONE);
    k.sync<HardEvent::V_S>();
    CHECK(k.y.GetValue(0) == 3.0f);  // a release build issues nothing
  });
  keeps([&](Kit& k) { cast(k, RoundMode::CAST_FLOOR); });
}

TEST(copy_rules) {
  breaks("copy-rounds-down", [](Kit& k) { AT(1) DataCopy(k.x, k.in, 9); });
  keeps([](Kit& k) { DataCopy(k.x, k.in, 16); });
  breaks("block-count", [](Kit& k) {
    AT(1) DataCopyPad(k.x, k.in, {4096, 0, 0, 0, 0}, {false, 0, 0, 0});
  });
  keeps([](Kit& k) { DataCopyPad(k.x, k.in, {4095, 0, 0, 0, 0}, {false, 0, 0, 0}); });
  breaks("block-length", [](Kit& k) {
    AT(1) DataCopyPad(k.x, k.in, {1, 6, 0, 0, 0}, {false, 0, 0, 0});
  });
  keeps([](Kit& k) {  // out of UB a length is any number of bytes
    Duplicate(k.x, 1.0f, 8);
    k.sync<HardEvent::V_MTE3>();
    DataCopyPad(k.out, k.x, {1, 6, 0, 0, 0});
  });
  breaks("padding-range", [](Kit& k) {
    AT(1) DataCopyPad(k.x, k.in, {1, 4, 0, 0, 0}, {true, 0, 9, 0});
  });
  keeps([](Kit& k) { DataCopyPad(k.x, k.in, {1, 4, 0, 0, 0}, {true, 0, 8, 0}); });
}

TEST(padding_of_64_bits) {
  const auto load = [](Kit& k, int64_t value, bool pad) {
    const auto to = k.x.ReinterpretCast<int64_t>();
    GlobalTensor<int64_t> from;
    from.SetGlobalBuffer(reinterpret_cast<int64_t*>(k.in.GetPhyAddr()));
    AT(1) DataCopyPad(to, from, {1, 8, 0, 0, 0}, {pad, 0, 3, value});
    k.sync<HardEvent::MTE2_S>();
    return pad ? to.GetValue(2) : 0;
  };
  breaks("padding-value", [&](Kit& k) {  // its low word, twice
    CHECK(load(k, 0x500000007, true) == 0x700000007);
  });
  keeps([&](Kit& k) { CHECK(load(k, 0, true) == 0); });
  keeps([&](Kit& k) { load(k, 7, false); });
}

TEST(atomic_rules) {
  const auto store = [](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    k.sync<HardEvent::V_MTE3>();
    AT(1) DataCopy(k.out, k.x, 64);
  };
  breaks("atomic-left-set", [&](Kit& k) {
    store(k);
    AT(1) SetAtomicAdd<float>();
  });
  breaks("atomic-type", [&](Kit& k) {
    SetAtomicAdd<int32_t>();
    store(k);
    SetAtomicNone();
  });
  keeps([&](Kit& k) {
    SetAtomicAdd<float>();
    store(k);
    SetAtomicNone();
  });
  keeps([&](Kit& k) { store(k); });
}

// ---- queues

struct Queued {
  TQue<TPosition::VECIN, 1> in;
  TQue<TPosition::VECOUT, 1> out;
  explicit Queued(Kit& k) {
    k.pipe.InitBuffer(in, 2, 256);
    k.pipe.InitBuffer(out, 2, 256);
  }
};

TEST(a_queue_may_set_an_id_whose_wait_is_still_queued) {
  keeps_in_every_order([](Kit& k) {
    // Both queues use id 0 of MTE2_V: it is free again as soon as the wait is dispatched.
    TQue<TPosition::VECIN, 1> first, second;
    k.pipe.InitBuffer(first, 1, 256);
    k.pipe.InitBuffer(second, 1, 256);
    for (int i = 0; i < 5; ++i) {
      for (auto* queue : {&first, &second}) {
        auto loaded = queue->AllocTensor<float>();
        DataCopy(loaded, k.in[64 * i], 64);
        queue->EnQue(loaded);
        auto ready = queue->DeQue<float>();
        Muls(ready, ready, 2.0f, 64);
        queue->FreeTensor(ready);
      }
    }
  });
}

TEST(queues_synchronise) {
  keeps_in_every_order([](Kit& k) {
    Queued q(k);
    for (int i = 0; i < 5; ++i) {
      auto loaded = q.in.AllocTensor<float>();
      DataCopy(loaded, k.in[64 * i], 64);
      q.in.EnQue(loaded);
      auto ready = q.in.DeQue<float>();
      auto result = q.out.AllocTensor<float>();
      Muls(result, ready, 2.0f, 64);
      q.in.FreeTensor(ready);
      q.out.EnQue(result);
      auto done = q.out.DeQue<float>();
      DataCopy(k.out[64 * i], done, 64);
      q.out.FreeTensor(done);
    }
  });
  keeps_in_every_order([](Kit& k) {
    TQueBind<TPosition::VECIN, TPosition::VECOUT, 1> through;
    k.pipe.InitBuffer(through, 2, 256);
    for (int i = 0; i < 5; ++i) {
      auto loaded = through.AllocTensor<float>();
      DataCopy(loaded, k.in[64 * i], 64);
      through.EnQue(loaded);
      auto done = through.DeQue<float>();
      DataCopy(k.out[64 * i], done, 64);
      through.FreeTensor(done);
    }
  });
}

TEST(buffers_of_a_queue_go_round) {
  keeps([](Kit& k) {
    TQue<TPosition::VECIN, 1> queue;
    k.pipe.InitBuffer(queue, 3, 256);
    uint64_t at[7];
    for (uint64_t& address : at) {
      auto t = queue.AllocTensor<float>();
      address = t.GetPhyAddr();
      queue.FreeTensor(t);
    }
    for (int i = 0; i < 6; ++i) CHECK(at[i + 1] == (i % 3 == 2 ? at[0] : at[i] + 256));
    auto kept = queue.AllocTensor<float>();  // the second one, which the next round passes by
    for (int i : {2, 0, 2}) {
      auto t = queue.AllocTensor<float>();
      CHECK(t.GetPhyAddr() == at[i]);
      queue.FreeTensor(t);
    }
    queue.FreeTensor(kept);
  });
}

// What a queue is for, within its depth and its buffers.
void go_round(Kit& k) {
  Queued q(k);
  for (int i = 0; i < 3; ++i) {
    auto first = q.in.AllocTensor<float>(), second = q.in.AllocTensor<float>();
    q.in.FreeTensor(second);
    DataCopy(first, k.in, 64);
    q.in.EnQue(first);
    first = q.in.DeQue<float>();
    Adds(k.x, first, 1.0f, 64);
    q.in.FreeTensor(first);
  }
}

TEST(queue_exhausted) {
  breaks("queue-exhausted", [](Kit& k) {
    Queued q(k);
    for (int i = 0; i < 3; ++i) {
      AT(1) q.in.AllocTensor<float>();
    }
  });
  keeps(go_round);
}

TEST(queue_empty) {
  breaks("queue-empty", [](Kit& k) {
    Queued q(k);
    q.in.AllocTensor<float>();
    AT(1) q.in.DeQue<float>();
  });
  keeps(go_round);
}

TEST(queue_depth) {
  breaks("queue-depth", [](Kit& k) {
    Queued q(k);
    for (int i = 0; i < 2; ++i) {
      auto t = q.in.AllocTensor<float>();
      AT(1) q.in.EnQue(t);
    }
    q.in.DeQue<float>();
    q.in.DeQue<float>();
  });
  keeps(go_round);
}

TEST(queue_state) {
  breaks("queue-state", [](Kit& k) {
    Queued q(k);
    auto t = q.in.AllocTensor<float>();
    q.in.FreeTensor(t);
    AT(1) q.in.FreeTensor(t);
  });
  breaks("queue-state", [](Kit& k) {
    Queued q(k);
    AT(1) q.in.EnQue(k.x);
  });
  keeps(go_round);
}

TEST(queue_use_after_free) {
  breaks("queue-use-after-free", [](Kit& k) {
    Queued q(k);
    auto t = q.in.AllocTensor<float>();
    q.in.FreeTensor(t);
    AT(1) DataCopy(t, k.in, 64);
  });
  keeps(go_round);
}

TEST(what_a_buffer_held_before_does_not_count) {
  breaks("ub-uninitialised", [](Kit& k) {  // what a buffer held before does not count
    Queued q(k);
    auto t = q.in.AllocTensor<float>();
    DataCopy(t, k.in, 64);
    q.in.EnQue(t);
    q.in.FreeTensor(q.in.DeQue<float>());
    q.in.AllocTensor<float>();
    t = q.in.AllocTensor<float>();
    AT(1) Adds(k.x, t, 1.0f, 64);
  });
  keeps(go_round);
}

// ---- cores and ends

TEST(sync_all_blocks) {
  emulator::Options options = manual();
  options.cores = 2;
  breaks("sync-all-blocks", [](Kit&) { AT(1) SyncAll(); }, options, 3);
  keeps([](Kit&) { SyncAll(); }, options, 2);
}

TEST(sync_all_workspace) {
  for (int value : {0, 1}) {
    World world;
    auto* workspace = world.gm.upload(std::vector<int32_t>(16, value), "workspace");
    const emulator::Report report = emulator::launch(world.gm, manual(), 2, [&] {
      Kit k(world);
      GlobalTensor<int32_t> counters;
      counters.SetGlobalBuffer(workspace);
      for (int i = 0; i < 2; ++i) SyncAll(counters, k.x.ReinterpretCast<int32_t>());
    });
    CHECK(report.has("sync-all-workspace") == (value != 0));
    CHECK(report.clean() == (value == 0));
  }
}

TEST(sync_all_workspace_that_is_not_there) {
  const auto meet = [](bool apart, uint32_t elements, uint32_t in_ub, bool released = false) {
    emulator::Gm gm(apart);
    auto* workspace = gm.upload(std::vector<int32_t>(elements, 0), "workspace");
    if (released) gm.release(workspace);
    return emulator::launch(gm, manual(), 2, [&] {
      TPipe pipe;
      TBuf<TPosition::VECCALC> buffer;
      pipe.InitBuffer(buffer, 64);
      GlobalTensor<int32_t> counters;
      counters.SetGlobalBuffer(elements ? workspace : nullptr);
      SyncAll(counters, buffer.Get<int32_t>()[16 - in_ub]);
    });
  };
  for (const bool apart : {false, true}) {
    CHECK(meet(apart, 16, 16).clean());
    CHECK(meet(apart, 24, 16).clean());
    CHECK(meet(apart, 0, 16).has("sync-all-workspace"));
    CHECK(meet(apart, 15, 16).has("sync-all-workspace"));
    CHECK(meet(apart, 16, 16, true).has("sync-all-workspace"));
    CHECK(meet(apart, 16, 8).has("ub-bounds"));
  }
}

// A World with the counters of the soft SyncAll behind `in`.
struct Meeting {
  World world;
  int32_t* counters;
  Meeting() : counters(world.gm.upload(std::vector<int32_t>(8 * 8, 0), "counters")) {}
  emulator::Report run(const std::function<void(Kit&, const std::function<void()>&)>& body,
                       uint64_t seed, int blocks) {
    emulator::Options options = manual();
    options.seed = seed;
    world.gm.fill(counters, 0, 8 * 32);
    return emulator::launch(world.gm, options, blocks, [&] {
      Kit k(world);
      GlobalTensor<int32_t> workspace;
      workspace.SetGlobalBuffer(counters);
      body(k, [&] { SyncAll(workspace, k.z.ReinterpretCast<int32_t>()); });
    });
  }
};

TEST(soft_sync_all_does_what_its_body_does) {
  for (uint64_t seed : {0, 1, 2, 3, 4, 5}) {
    Meeting m;
    const emulator::Report report = m.run(
        [](Kit& k, const std::function<void()>& meet) {
          const int64_t me = GetBlockIdx();
          for (int turn = 0; turn < 3; ++turn) {
            Duplicate(k.x, static_cast<float>(10 * turn + me), 64);
            k.sync<HardEvent::V_MTE3>();
            DataCopy(k.out[64 * me], k.x, 64);
            meet();
            DataCopy(k.y, k.out[64 * ((me + 1) % 4)], 64);
            SetFlag<HardEvent::MTE2_S>(1);
            WaitFlag<HardEvent::MTE2_S>(1);
            CHECK(k.y.GetValue(63) == static_cast<float>(10 * turn + (me + 1) % 4));
            meet();
          }
        },
        seed, 4);
    if (!report.clean()) std::printf("%s", report.text().c_str());
    CHECK(report.clean());
    for (int core = 0; core < 4; ++core) CHECK(m.counters[8 * core] == 6);
  }
}

TEST(flags_that_a_reduction_still_holds) {
  const auto reduce = [](Kit& k, int id) {
    Duplicate(k.x, 1.0f, 256);
    PipeBarrier<PIPE_V>();
    AT(0) ReduceSum(k.y, k.x, k.z, 256);
    AT(1) SetFlag<HardEvent::S_MTE3>(id);
    WaitFlag<HardEvent::S_MTE3>(id);
    CHECK(k.y.GetValue(0) == 256.0f);
  };
  breaks("flag-early", [&](Kit& k) { reduce(k, 0); });
  keeps([&](Kit& k) { reduce(k, 1); });
}

TEST(flags_that_soft_sync_all_still_holds) {
  const auto set_behind = [](int id) {
    return [id](Kit& k, const std::function<void()>& meet) {
      meet();
      SetFlag<HardEvent::S_MTE2>(id);
      WaitFlag<HardEvent::S_MTE2>(id);
      DataCopy(k.y, k.in, 64);
      k.sync<HardEvent::MTE2_V>();
    };
  };
  int hung = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const emulator::Report clash = Meeting().run(set_behind(0), seed, 3);
    CHECK(clash.has("flag-early"));
    hung += clash.has("deadlock");
    CHECK(Meeting().run(set_behind(1), seed, 3).clean());
  }
  CHECK(hung > 0);  // in some order the second SetFlag is lost
  // On a core's first call the counter itself is still on its way out of UB.
  const auto overwrite = [](Kit& k, const std::function<void()>& meet) {
    meet();
    Duplicate(k.z, 0.0f, 64);
  };
  CHECK(Meeting().run(overwrite, 0, 3).has("war"));
}

TEST(not_drained) {
  for (bool barrier : {false, true}) {
    World world;
    const emulator::Report report = emulator::launch(world.gm, manual(), 1, [&] {
      InitSocState();
      GlobalTensor<float> in;
      in.SetGlobalBuffer(world.in);
      DataCopy(LocalTensor<float>(TPosition::VECCALC, 0, 64), in, 64);
      if (barrier) PipeBarrier<PIPE_ALL>();
    });
    CHECK(report.has("not-drained") == !barrier);
    CHECK(report.clean() == barrier);
  }
}

TEST(assertions) {
  breaks("assert", [](Kit& k) { AT(1) assert(k.x.GetSize() == 3); });
  breaks("assert", [](Kit& k) { AT(1) ascendc_assert(k.x.GetSize() == 3, "size %d", 3); });
  keeps([](Kit& k) { assert(k.x.GetSize() == kElements); });
}

TEST(library_shapes) {
  const auto broadcast = [](Kit& k, uint32_t elements) {
    Duplicate(k.x, 1.0f, 8);
    PipeBarrier<PIPE_V>();
    const uint32_t to[] = {2, elements}, from[] = {2, 1};
    AT(1) BroadCast<float, 2, 1>(k.y, k.x, to, from);
  };
  breaks("broadcast-shape", [&](Kit& k) { broadcast(k, 2048); });
  keeps([&](Kit& k) { broadcast(k, 512); });
  const auto long_rows = [](Kit& k, uint32_t more) {  // scratch lies behind the last buffer
    TBuf<TPosition::VECCALC> rest;
    k.pipe.InitBuffer(rest, 188160 - 3 * kElements * sizeof(float) - more);
    Duplicate(k.x, 1.0f, 304);  // eight elements at a time
    PipeBarrier<PIPE_V>();
    const uint32_t to[] = {300, 8}, from[] = {300, 1};
    AT(1) BroadCast<float, 2, 1>(rest.Get<float>(), k.x, to, from);
  };
  CHECK(run([&](Kit& k) { long_rows(k, 0); }, manual()).has("scratch"));
  keeps([&](Kit& k) { long_rows(k, 9728); });
  const auto sum = [](Kit& k, uint32_t inner) {
    Duplicate(k.x, 1.0f, 64);
    PipeBarrier<PIPE_V>();
    AT(1) Sum(k.y, k.x, SumParams{2, inner, 3});
  };
  breaks("sum-shape", [&](Kit& k) { sum(k, 12); });
  keeps([&](Kit& k) { sum(k, 16); });
}

TEST(findings_count_instructions_and_name_them) {
  const emulator::Report report = run(
      [](Kit& k) {
        for (int i = 0; i < 7; ++i) Adds(k.y, k.x, 1.0f, 256);
      },
      {}, 2);
  CHECK(report.findings.size() == 1 && report.findings[0].count == 14);
  CHECK(report.findings[0].core == 0 && report.findings[0].number == 1);
  CHECK(report.findings[0].text().find("rules_test.cc:") != std::string::npos);
}

}  // namespace

int main() { return run_tests(); }
