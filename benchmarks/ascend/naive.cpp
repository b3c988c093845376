// Deformable aggregation written the plain way, for comparison only: one anchor after the other on
// the core that a fixed split names, one visible pair at a time, every copy waited for, weights
// spread over all channels, corners copied one by one, full-width arithmetic in the backward pass.
// It shows what the organisation of a kernel is worth, and is no one's product: the vendor's
// published kernel is up to twice as fast. It takes what the comparison needs: locations as (y, x),
// c / group a multiple of 8 and at most 64, scale * group a multiple of 8.

#include "kernel_operator.h"

namespace naive {

using namespace AscendC;

struct Sizes {
  int64_t batch, rows, channels, anchors, points, cameras, scales, groups;
};

struct Corners {
  bool inside[4];
  int64_t row[4];
  float coefficient[4];
  float fraction_y, fraction_x, height, width;
};

class Kernel {
 public:
  Kernel(const Sizes& sizes, TPipe& pipe, GM_ADDR features, GM_ADDR shapes, GM_ADDR starts,
         GM_ADDR locations, GM_ADDR weight)
      : t(sizes) {
    gm_features_.SetGlobalBuffer(reinterpret_cast<float*>(features));
    gm_locations_.SetGlobalBuffer(reinterpret_cast<float*>(locations));
    gm_weight_.SetGlobalBuffer(reinterpret_cast<float*>(weight));
    c = static_cast<int32_t>(t.channels);
    all = static_cast<int32_t>(t.scales) * c;
    pairs = static_cast<int32_t>(t.points * t.cameras);
    const int32_t maps = static_cast<int32_t>(t.cameras * t.scales);
    pipe.InitBuffer(locations_, (2 * pairs + 8) * 4);
    pipe.InitBuffer(maps_, (3 * maps + 16) * 4);
    pipe.InitBuffer(weights_, (t.scales * t.groups + 8) * 4);
    pipe.InitBuffer(blocks_, t.scales * t.groups * 32);
    pipe.InitBuffer(corners_, 4 * all * 4);
    pipe.InitBuffer(spread_, 4 * all * 4);
    pipe.InitBuffer(sum_, c * 4);
    GlobalTensor<int32_t> gm_shapes, gm_starts;
    gm_shapes.SetGlobalBuffer(reinterpret_cast<int32_t*>(shapes));
    gm_starts.SetGlobalBuffer(reinterpret_cast<int32_t*>(starts));
    sizes_ = maps_.Get<int32_t>();
    starts_ = sizes_[(2 * maps + 7) / 8 * 8];
    const DataCopyPadExtParams<int32_t> unpadded{false, 0, 0, 0};
    DataCopyPad(sizes_, gm_shapes, DataCopyExtParams{1, static_cast<uint32_t>(8 * maps), 0, 0, 0},
                unpadded);
    DataCopyPad(starts_, gm_starts, DataCopyExtParams{1, static_cast<uint32_t>(4 * maps), 0, 0, 0},
                unpadded);
    Pass<HardEvent::MTE2_S>();
  }

 protected:
  template <HardEvent event>
  void Pass() {
    SetFlag<event>(0);
    WaitFlag<event>(0);
  }

  void Load(const LocalTensor<float>& to, const GlobalTensor<float>& from, int64_t floats) {
    DataCopyPad(to, from, DataCopyExtParams{1, static_cast<uint32_t>(floats * 4), 0, 0, 0},
                DataCopyPadExtParams<float>{false, 0, 0, 0.0f});
  }

  void Store(const GlobalTensor<float>& to, const LocalTensor<float>& from, int64_t floats) {
    DataCopyPad(to, from, DataCopyExtParams{1, static_cast<uint32_t>(floats * 4), 0, 0, 0});
  }

  // Anchors of this core: a contiguous, fixed share.
  int64_t FirstAnchor() const { return GetBlockIdx() * Share(); }
  int64_t LastAnchor() const {
    const int64_t end = FirstAnchor() + Share(), most = t.batch * t.anchors;
    return end < most ? end : most;
  }
  int64_t Share() const { return (t.batch * t.anchors + GetBlockNum() - 1) / GetBlockNum(); }

  void LoadLocations(int64_t anchor) {
    PipeBarrier<PIPE_ALL>();
    Load(locations_.Get<float>(), gm_locations_[anchor * pairs * 2], 2 * pairs);
    Pass<HardEvent::MTE2_S>();
  }

  bool Visible(int32_t pair, float& y, float& x) {
    const LocalTensor<float> locations = locations_.Get<float>();
    y = locations.GetValue(2 * pair);
    if (!(y > 0 && y < 1)) return false;
    x = locations.GetValue(2 * pair + 1);
    return x > 0 && x < 1;
  }

  // Weights of the pair, one per channel, in spread_[0, all).
  void LoadWeights(int64_t pair) {
    const int32_t count = static_cast<int32_t>(t.scales * t.groups);
    const LocalTensor<float> weights = weights_.Get<float>();
    Pass<HardEvent::V_MTE2>();
    Load(weights, gm_weight_[pair * count], count);
    Pass<HardEvent::MTE2_V>();
    const LocalTensor<float> blocks = blocks_.Get<float>(), spread = spread_.Get<float>();
    PipeBarrier<PIPE_V>();
    Brcb(blocks, weights, static_cast<uint8_t>(count / 8), BrcbRepeatParams{1, 8});
    PipeBarrier<PIPE_V>();
    const uint16_t pitch = static_cast<uint16_t>(c / t.groups / 8);
    Copy(spread, blocks, static_cast<uint64_t>(c / t.groups), static_cast<uint8_t>(count),
         CopyRepeatParams{1, 0, pitch, 1});
    PipeBarrier<PIPE_V>();
  }

  Corners Find(int64_t item, int32_t camera, int32_t scale, float y, float x) {
    const int32_t map = camera * static_cast<int32_t>(t.scales) + scale;
    const int64_t start = starts_.GetValue(map), height = sizes_.GetValue(2 * map),
                  width = sizes_.GetValue(2 * map + 1);
    const float h = y * height - 0.5f, w = x * width - 0.5f;
    const int64_t top = ScalarCast<float, int32_t, RoundMode::CAST_FLOOR>(h),
                  left = ScalarCast<float, int32_t, RoundMode::CAST_FLOOR>(w);
    Corners found;
    found.fraction_y = h - top;
    found.fraction_x = w - left;
    found.height = height;
    found.width = width;
    for (int32_t i = 0; i < 4; ++i) {
      const int64_t row = top + i / 2, column = left + i % 2;
      found.inside[i] = row >= 0 && row < height && column >= 0 && column < width;
      found.row[i] = item * t.rows + start + row * width + column;
      found.coefficient[i] = (i / 2 ? found.fraction_y : 1 - found.fraction_y) *
                             (i % 2 ? found.fraction_x : 1 - found.fraction_x);
    }
    return found;
  }

  const Sizes t;
  int32_t c, all, pairs;
  GlobalTensor<float> gm_features_, gm_locations_, gm_weight_;
  TBuf<TPosition::VECCALC> locations_, maps_, weights_, blocks_, corners_, spread_, sum_;
  LocalTensor<int32_t> sizes_, starts_;
};

class Forward : public Kernel {
 public:
  using Kernel::Kernel;

  void Run(GM_ADDR out) {
    GlobalTensor<float> gm_out;
    gm_out.SetGlobalBuffer(reinterpret_cast<float*>(out));
    const LocalTensor<float> sum = sum_.Get<float>();
    Duplicate(corners_.Get<float>(), 0.0f, 4 * all);
    for (int64_t anchor = FirstAnchor(); anchor < LastAnchor(); ++anchor) {
      LoadLocations(anchor);
      Duplicate(sum, 0.0f, c);
      for (int32_t pair = 0; pair < pairs; ++pair) {
        float y, x;
        if (Visible(pair, y, x)) AddPair(anchor, pair, y, x);
      }
      Pass<HardEvent::V_MTE3>();
      Store(gm_out[anchor * c], sum, c);
      Pass<HardEvent::MTE3_V>();
    }
  }

 private:
  void AddPair(int64_t anchor, int32_t pair, float y, float x) {
    const LocalTensor<float> corners = corners_.Get<float>(), spread = spread_.Get<float>();
    const LocalTensor<float> sum = sum_.Get<float>();
    LoadWeights(anchor * pairs + pair);
    for (int32_t i = 1; i < 4; ++i) Adds(spread[i * all], spread, 0.0f, all);
    Pass<HardEvent::V_MTE2>();
    PipeBarrier<PIPE_V>();
    for (int32_t s = 0; s < t.scales; ++s) {
      const Corners found = Find(anchor / t.anchors, pair % t.cameras, s, y, x);
      for (int32_t i = 0; i < 4; ++i) {
        const LocalTensor<float> part = spread[i * all + s * c];
        Muls(part, part, found.coefficient[i], c);
        if (found.inside[i]) {
          Load(corners[i * all + s * c], gm_features_[found.row[i] * c], c);
        }
      }
    }
    Pass<HardEvent::MTE2_V>();
    PipeBarrier<PIPE_V>();
    Mul(spread, spread, corners, 4 * all);
    PipeBarrier<PIPE_V>();
    Duplicate(corners, 0.0f, 4 * all);
    for (int32_t i = 0; i < 4 * t.scales; ++i) {
      Add(sum, sum, spread[i * c], c);
      PipeBarrier<PIPE_V>();
    }
  }
};

class Backward : public Kernel {
 public:
  Backward(const Sizes& sizes, TPipe& pipe, GM_ADDR features, GM_ADDR shapes, GM_ADDR starts,
           GM_ADDR locations, GM_ADDR weight, GM_ADDR cotangent, GM_ADDR grad_features,
           GM_ADDR grad_locations, GM_ADDR grad_weight)
      : Kernel(sizes, pipe, features, shapes, starts, locations, weight) {
    gm_cotangent_.SetGlobalBuffer(reinterpret_cast<float*>(cotangent));
    gm_grad_features_.SetGlobalBuffer(reinterpret_cast<float*>(grad_features));
    gm_grad_locations_.SetGlobalBuffer(reinterpret_cast<float*>(grad_locations));
    gm_grad_weight_.SetGlobalBuffer(reinterpret_cast<float*>(grad_weight));
    pipe.InitBuffer(work_, 12 * c * 4);
    pipe.InitBuffer(small_, (t.scales * t.groups + 8) * 4);
    pipe.InitBuffer(by_location_, 64);
  }

  void Run() {
    for (int64_t anchor = FirstAnchor(); anchor < LastAnchor(); ++anchor) {
      LoadLocations(anchor);
      Load(sum_.Get<float>(), gm_cotangent_[anchor * c], c);
      Pass<HardEvent::MTE2_V>();
      for (int32_t pair = 0; pair < pairs; ++pair) {
        float y, x;
        if (Visible(pair, y, x)) Differentiate(anchor, pair, y, x);
      }
    }
  }

 private:
  LocalTensor<float> Work(int32_t i) { return work_.Get<float>()[i * c]; }

  // to = sum over the corners of factor[i] * corner i
  void Combine(const LocalTensor<float>& to, const LocalTensor<float>& corners, const float* factor,
               const LocalTensor<float>& spare) {
    Muls(to, corners, factor[0], c);
    PipeBarrier<PIPE_V>();
    for (int32_t i = 1; i < 4; ++i) {
      Muls(spare, corners[i * c], factor[i], c);
      PipeBarrier<PIPE_V>();
      Add(to, to, spare, c);
      PipeBarrier<PIPE_V>();
    }
  }

  void Differentiate(int64_t anchor, int32_t pair, float y, float x) {
    const LocalTensor<float> grad_y = Work(10), grad_x = Work(11);
    const LocalTensor<float> by_weight = small_.Get<float>(),
                             by_location = by_location_.Get<float>();
    LoadWeights(anchor * pairs + pair);
    Duplicate(grad_y, 0.0f, c);
    Duplicate(grad_x, 0.0f, c);
    Pass<HardEvent::MTE3_V>();
    for (int32_t s = 0; s < t.scales; ++s) {
      AddScale(anchor / t.anchors, static_cast<int32_t>(pair % t.cameras), s, y, x);
    }
    PipeBarrier<PIPE_V>();
    for (const auto& [from, to] : {std::pair{grad_y, 0}, std::pair{grad_x, 8}}) {
      WholeReduceSum(Work(0)[to], from, 64, c / 64, 1, 1, 8);
    }
    PipeBarrier<PIPE_V>();
    WholeReduceSum(by_location, Work(0), c / 64, 2, 1, 1, 1);
    Pass<HardEvent::V_MTE3>();
    const int64_t at = anchor * pairs + pair;
    Store(gm_grad_locations_[at * 2], by_location, 2);
    Store(gm_grad_weight_[at * t.scales * t.groups], by_weight, t.scales * t.groups);
  }

  void AddScale(int64_t item, int32_t camera, int32_t s, float y, float x) {
    const LocalTensor<float> corners = Work(0), grads = Work(4), scaled = Work(8), spare = Work(9);
    const LocalTensor<float> cotangent = sum_.Get<float>();
    const Corners found = Find(item, camera, s, y, x);
    PipeBarrier<PIPE_V>();
    Duplicate(corners, 0.0f, 4 * c);
    Pass<HardEvent::V_MTE2>();
    for (int32_t i = 0; i < 4; ++i) {
      if (found.inside[i]) Load(corners[i * c], gm_features_[found.row[i] * c], c);
    }
    Mul(scaled, cotangent, spread_.Get<float>()[s * c], c);
    PipeBarrier<PIPE_V>();
    for (int32_t i = 0; i < 4; ++i) Muls(grads[i * c], scaled, found.coefficient[i], c);
    Pass<HardEvent::V_MTE3>();
    SetAtomicAdd<float>();
    for (int32_t i = 0; i < 4; ++i) {
      if (found.inside[i]) Store(gm_grad_features_[found.row[i] * c], grads[i * c], c);
    }
    SetAtomicNone();
    Pass<HardEvent::MTE2_V>();
    const float fy = found.fraction_y, fx = found.fraction_x;
    const float along_y[4] = {-(1 - fx), -fx, 1 - fx, fx};
    const float along_x[4] = {-(1 - fy), 1 - fy, -fy, fy};
    Pass<HardEvent::MTE3_V>();
    AddAlong(Work(10), grads, corners, along_y, found.height, scaled, spare);
    AddAlong(Work(11), grads, corners, along_x, found.width, scaled, spare);
    Combine(grads, corners, found.coefficient, spare);
    Mul(grads, grads, cotangent, c);
    PipeBarrier<PIPE_V>();
    const int32_t width = static_cast<int32_t>(c / t.groups);
    for (int32_t g = 0; g < t.groups; ++g) {
      WholeReduceSum(small_.Get<float>()[s * t.groups + g], grads[g * width], width, 1, 1, 1, 8);
    }
  }

  void AddAlong(const LocalTensor<float>& sum, const LocalTensor<float>& work,
                const LocalTensor<float>& corners, const float* factor, float size,
                const LocalTensor<float>& scaled, const LocalTensor<float>& spare) {
    Combine(work, corners, factor, spare);
    Mul(work, work, scaled, c);
    PipeBarrier<PIPE_V>();
    Muls(work, work, size, c);
    PipeBarrier<PIPE_V>();
    Add(sum, sum, work, c);
    PipeBarrier<PIPE_V>();
  }

  GlobalTensor<float> gm_cotangent_, gm_grad_features_, gm_grad_locations_, gm_grad_weight_;
  TBuf<TPosition::VECCALC> work_, small_, by_location_;
};

}  // namespace naive

extern "C" __global__ __aicore__ void naive_forward(GM_ADDR features, GM_ADDR shapes,
                                                    GM_ADDR starts, GM_ADDR locations,
                                                    GM_ADDR weight, GM_ADDR out,
                                                    naive::Sizes sizes) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  AscendC::TPipe pipe;
  naive::Forward(sizes, pipe, features, shapes, starts, locations, weight).Run(out);
}

extern "C" __global__ __aicore__ void naive_backward(GM_ADDR features, GM_ADDR shapes,
                                                     GM_ADDR starts, GM_ADDR locations,
                                                     GM_ADDR weight, GM_ADDR cotangent,
                                                     GM_ADDR grad_features, GM_ADDR grad_locations,
                                                     GM_ADDR grad_weight, naive::Sizes sizes) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  AscendC::TPipe pipe;
  naive::Backward(sizes, pipe, features, shapes, starts, locations, weight, cotangent,
                  grad_features, grad_locations, grad_weight)
      .Run();
}
