// The gradient of the feature maps: coefficient times weight times cotangent, added to the corner rows
// in float32.

#ifndef JDA_ASCEND_FEATURE_GRADIENT_H_
#define JDA_ASCEND_FEATURE_GRADIENT_H_

#include "cotangents.h"
#include "parts.h"

namespace jda_ascend {

class FeatureGradient {
 public:
  // What is added to the rows of a packet has one buffer. Where rows are widened, it takes turns with
  // those: they need the buffer of the packet before, which is stored meanwhile, later than this does.
  __aicore__ inline FeatureGradient(const Tiling& tiling, Parts& parts, Cotangents& cotangents,
                                    GM_ADDR gradient, bool takes_turns)
      : t(tiling),
        takes_turns_(takes_turns),
        memory_(parts.memory),
        blocks_(parts.blocks),
        geometry_(parts.geometry),
        weights_(parts.weights),
        corners_(parts.corners),
        cotangents_(cotangents) {
    gm_gradient_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(gradient));
    spread_ = memory_.Get<float>(t.spread);
    bilinear_ = memory_.Get<float>(t.bilinear);
    gradients_ = memory_.Get<float>(t.gradients);
    other_ = memory_.Get<float>(t.widened);
    scaled_ = memory_.Get<float>(t.scratch);
  }

  // Flags between the runs of a schedule are down.
  __aicore__ inline void Start() { SetFlag<HardEvent::MTE3_V>(OtherEvent()); }
  __aicore__ inline void Finish() { WaitFlag<HardEvent::MTE3_V>(OtherEvent()); }

  // The buffer of the packet before, which this one may use now, and the next one for its gradients.
  __aicore__ inline LocalTensor<float> Turn() {
    WaitFlag<HardEvent::MTE3_V>(OtherEvent());
    turn_ ^= 1;
    return Buffer();
  }

  // Of the samples of a packet, whose coefficients are spread.
  __aicore__ inline void Add(const Packet& packet) {
    PipeBarrier<PIPE_V>();  // weights
    weights_.Spread(packet, spread_);
    PipeBarrier<PIPE_V>();
    const Block& block = blocks_[packet.block];
    for (PacketRuns runs(block, packet); runs.Next();) {
      weights_.Multiply(scaled_[runs.first * t.tile_pitch],
                        cotangents_.Of(block, runs.run, packet.tile),
                        spread_[runs.first * t.weight_pitch * kLanes], runs.count);
    }
    PipeBarrier<PIPE_V>();
    const int32_t event = Event(turn_);
    if (!takes_turns_) WaitFlag<HardEvent::MTE3_V>(event);
    const LocalTensor<float> rows = Buffer();
    for (int32_t corner = 0; corner < 4; ++corner) {
      MultiplyByCoefficient(rows[corners_.Row(corner / 2, 0, corner % 2)],
                            bilinear_[geometry_.Bilinear(packet, corner / 2, corner % 2)],
                            packet.count);
    }
    SetFlag<HardEvent::V_MTE3>(event);
    WaitFlag<HardEvent::V_MTE3>(event);
    AddToFeatures(packet, rows);
    SetFlag<HardEvent::MTE3_V>(event);
  }

 private:
  __aicore__ inline int32_t Event(int32_t turn) const { return kFeatureGradientEvent + 3 * turn; }
  __aicore__ inline int32_t OtherEvent() const { return Event(takes_turns_ ? turn_ ^ 1 : 0); }
  __aicore__ inline LocalTensor<float> Buffer() const { return turn_ == 0 ? gradients_ : other_; }

  // to[2 i] = scaled[i] * coefficient[i]
  __aicore__ inline void MultiplyByCoefficient(const LocalTensor<float>& to,
                                               const LocalTensor<float>& coefficient,
                                               int32_t count) {
    const int32_t pitch = t.tile_pitch / kLanes;
    const bool at_once = 2 * pitch <= kMaxRepeats;  // what a repeat stride can say
    const int32_t calls = at_once ? 1 : count;
    const uint8_t repeats = static_cast<uint8_t>(at_once ? count : 1);
    const uint8_t one = static_cast<uint8_t>(pitch), two = static_cast<uint8_t>(2 * pitch);
    for (int32_t i = 0; i < calls; ++i) {
      for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
        Mul(to[2 * i * t.tile_pitch + c], scaled_[i * t.tile_pitch + c], coefficient[i * kLanes],
            memory_.Lanes(c), repeats, BinaryRepeatParams{1, 1, 0, two, one, 1});
      }
    }
  }

  __aicore__ inline void AddToFeatures(const Packet& packet, const LocalTensor<float>& rows) {
    const int64_t element = blocks_[packet.block].element;
    SetAtomicAdd<float>();
    TwoPlaces two{};
    for (int32_t i = 0; i < packet.count; ++i) {
      const Place place = corners_.PlaceOf(packet, element, i, two);
      const int64_t gap = corners_.RowGap(place, sizeof(float));
      if (t.deterministic != 0) PipeBarrier<PIPE_MTE3>();
      if (gap >= 0) {
        AddInside(place, rows, i, gap);
      } else {
        AddAtBorder(place, rows, i, packet.tile);
      }
    }
    SetAtomicNone();
  }

  __aicore__ inline void AddInside(const Place& place, const LocalTensor<float>& rows, int32_t i,
                                   int64_t gap) {
    const uint32_t bytes = static_cast<uint32_t>(2 * t.channels * sizeof(float));
    DataCopyPad(gm_gradient_[corners_.Element(place, 0, 0, 0)], rows[corners_.Row(0, i, 0)],
                DataCopyExtParams{2, bytes, corners_.RowsApart(), static_cast<uint32_t>(gap), 0});
  }

  __aicore__ inline void AddAtBorder(const Place& place, const LocalTensor<float>& rows, int32_t i,
                                     int32_t tile) {
    const int32_t groups = memory_.GroupsOf(tile);
    const bool both = memory_.whole_rows && (place.flags & 12) == 12;
    for (int32_t y = 0; y < 2; ++y) {
      if ((place.flags >> y & 1) == 0) continue;
      for (int32_t x = 0; x < 2; ++x) {
        if ((place.flags >> (2 + x) & 1) == 0 || (both && x == 1)) continue;
        memory_.StoreRows(gm_gradient_[corners_.Element(place, tile, y, x)],
                          rows[corners_.Row(y, i, x)], both ? 2 : 1, groups);
      }
    }
  }

  const Tiling& t;
  const bool takes_turns_;
  int32_t turn_ = 0;  // which buffer this packet's gradients have
  Memory& memory_;
  Blocks& blocks_;
  Geometry& geometry_;
  Weights& weights_;
  Corners& corners_;
  Cotangents& cotangents_;
  GlobalTensor<float> gm_gradient_;
  LocalTensor<float> spread_, bilinear_, gradients_, other_, scaled_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_FEATURE_GRADIENT_H_
