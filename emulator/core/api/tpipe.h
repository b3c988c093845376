// TPipe, TBuf and TQue: buffers of UB, and queues of them that synchronise by flags.
#pragma once

#include <deque>
#include <exception>
#include <vector>

#include "sync.h"
#include "tensor.h"

namespace AscendC {

template <TPosition position>
class TBuf {
 public:
  template <class T>
  LocalTensor<T> Get() const {
    return view<T>(0, bytes_);
  }
  template <class T>
  LocalTensor<T> Get(uint32_t elements, Site site = Site::here()) const {
    return GetWithOffset<T>(elements, 0, site);
  }
  template <class T>
  LocalTensor<T> GetWithOffset(uint32_t elements, uint32_t byte_offset,
                               Site site = Site::here()) const {
    const uint64_t end = byte_offset + static_cast<uint64_t>(elements) * sizeof(T);
    if (end > bytes_) {
      emulator::current().error("ub-bounds", site, "TBuf::Get of ", end, " bytes from a buffer of ",
                                bytes_);
    }
    return view<T>(byte_offset, static_cast<int64_t>(elements) * sizeof(T));
  }

 private:
  friend class TPipe;
  template <class T>
  LocalTensor<T> view(uint32_t offset, int64_t bytes) const {
    return LocalTensor<T>::view(address_ + offset, bytes);
  }
  uint32_t address_ = 0, bytes_ = 0;
};

// Buffers go round: AllocTensor, which looks behind the one that it gave last, EnQue, DeQue,
// FreeTensor. The first and last pipe that touch a buffer, and so its flags, follow from the
// positions of its producer and consumer.
template <TPosition source, TPosition target, int32_t depth, auto mask = 0>
class TQueBind {
 public:
  template <class T>
  LocalTensor<T> AllocTensor(Site site = Site::here()) {
    for (size_t k = 0; k < buffers_.size(); ++k) {
      const int id = buffers_[next_++ % buffers_.size()];
      api::Buffer& buffer = api::library().buffers[id];
      if (buffer.state != api::Buffer::free) continue;
      api::await_free(buffer, site);
      buffer.state = api::Buffer::allocated;
      return LocalTensor<T>::view(buffer.address, buffer.bytes, id, buffer.generation);
    }
    emulator::current().error("queue-exhausted", site, "AllocTensor while all ", buffers_.size(),
                              " buffers of the queue are in use");
    throw emulator::Abandoned();
  }

  template <class T>
  bool EnQue(const LocalTensor<T>& tensor, Site site = Site::here()) {
    auto& core = emulator::current();
    api::Buffer* buffer = mine(tensor, site);
    if (!buffer) return false;
    if (buffer->state != api::Buffer::allocated && buffer->state != api::Buffer::dequeued) {
      core.error("queue-state", site,
                 "EnQue of a tensor that is not allocated, or that is in the queue already");
      return false;
    }
    if (static_cast<int>(waiting_.size()) >= depth) {
      core.error("queue-depth", site, "EnQue of more tensors than the depth of the queue, ", depth);
    }
    const int id = api::allocate_event(first(), middle(), site);
    core.set_flag(first(), middle(), id, site, emulator::FlagOwner::queue);
    buffer->state = api::Buffer::queued;
    waiting_.push_back({tensor.buffer(), id});
    return true;
  }

  template <class T>
  LocalTensor<T> DeQue(Site site = Site::here()) {
    if (waiting_.empty()) {
      emulator::current().error("queue-empty", site, "DeQue of a queue that holds no tensor");
      throw emulator::Abandoned();
    }
    const Waiting next = waiting_.front();
    waiting_.pop_front();
    api::wait_and_release(first(), middle(), next.event, site);
    api::Buffer& buffer = api::library().buffers[next.buffer];
    buffer.state = api::Buffer::dequeued;
    return LocalTensor<T>::view(buffer.address, buffer.bytes, next.buffer, buffer.generation);
  }

  template <class T>
  void FreeTensor(const LocalTensor<T>& tensor, Site site = Site::here()) {
    auto& core = emulator::current();
    api::Buffer* buffer = mine(tensor, site);
    if (!buffer) return;
    if (buffer->state == api::Buffer::free || buffer->generation != tensor.generation()) {
      core.error("queue-state", site, "FreeTensor of a tensor that is free already");
      return;
    }
    if (buffer->state == api::Buffer::queued) {
      core.error("queue-state", site, "FreeTensor of a tensor that is still in the queue");
      return;
    }
    buffer->free_event = api::allocate_event(last(), first(), site);
    core.set_flag(last(), first(), buffer->free_event, site, emulator::FlagOwner::queue);
    buffer->state = api::Buffer::free;
    ++buffer->generation;
    core.judge.forget(buffer->address, buffer->bytes);
  }

 private:
  friend class TPipe;
  struct Waiting {
    int buffer;
    int event;
  };
  // The pipe that fills, the one that is waited for by EnQue's flag, and the one that frees.
  static constexpr emulator::Pipe first() {
    return source == TPosition::VECIN ? emulator::Pipe::MTE2 : emulator::Pipe::V;
  }
  static constexpr emulator::Pipe middle() { return last(); }
  static constexpr emulator::Pipe last() {
    return target == TPosition::VECOUT ? emulator::Pipe::MTE3 : emulator::Pipe::V;
  }
  template <class T>
  api::Buffer* mine(const LocalTensor<T>& tensor, Site site) {
    auto& core = emulator::current();
    for (int id : buffers_) {
      if (id == tensor.buffer()) return &api::library().buffers[id];
    }
    core.error("queue-state", site, "the tensor does not come from this queue");
    return nullptr;
  }

  std::vector<int> buffers_;
  size_t next_ = 0;  // where AllocTensor looks first
  std::deque<Waiting> waiting_;
};

template <TPosition position, int32_t depth, auto mask = 0>
class TQue : public TQueBind<position, position, depth, mask> {};

class TPipe {
 public:
  explicit TPipe(Site site = Site::here()) : site_(site) { Init(); }
  ~TPipe() noexcept(false) {
    if (alive_ && std::uncaught_exceptions() == outer_exceptions_) Destroy();
  }
  TPipe(const TPipe&) = delete;
  TPipe& operator=(const TPipe&) = delete;

  void Init() {
    auto& core = emulator::current();
    core.reset_masks();
    core.atomic = {};
    api::library().pipe = this;
    api::library().ub_used = 0;
    for (uint8_t& taken : api::library().reserved_events) taken = 0;
  }
  // Waits for the flags that queues still hold, and for all pipes.
  void Destroy() {
    auto& core = emulator::current();
    for (api::Buffer& buffer : api::library().buffers) api::await_free(buffer, site_);
    core.barrier_all();
    api::library().pipe = nullptr;
    alive_ = false;
  }

  template <class Queue>
  bool InitBuffer(Queue& queue, uint8_t count, uint32_t bytes, Site site = Site::here()) {
    for (int k = 0; k < count; ++k) {
      const uint32_t address = take(bytes, site);
      queue.buffers_.push_back(api::library().buffers.size());
      api::library().buffers.push_back({address, emulator::round_up(bytes, emulator::kBlock),
                                        api::Buffer::free, 0, Queue::first(), Queue::last()});
    }
    return true;
  }
  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes, Site site = Site::here()) {
    buffer.address_ = take(bytes, site);
    buffer.bytes_ = emulator::round_up(bytes, emulator::kBlock);
    return true;
  }

  template <HardEvent event>
  TEventID AllocEventID(Site site = Site::here()) {
    constexpr auto pipes = api::event_pipes(event);
    return api::allocate_event(pipes.from, pipes.to, site);
  }
  template <HardEvent event>
  void ReleaseEventID(TEventID id, Site site = Site::here()) {
    constexpr auto pipes = api::event_pipes(event);
    api::release_event(pipes.from, pipes.to, id, site);
  }
  template <HardEvent event>
  TEventID FetchEventID(Site site = Site::here()) {
    return FetchEventID(event, site);
  }
  TEventID FetchEventID(HardEvent event, Site site = Site::here()) {
    const auto pipes = api::event_pipes(event);
    return api::lowest_free_event(pipes.from, pipes.to, site);
  }

 private:
  uint32_t take(uint32_t bytes, Site site) {
    auto& core = emulator::current();
    const uint32_t address = api::library().ub_used;
    const uint32_t end = address + emulator::round_up(bytes, emulator::kBlock);
    if (bytes == 0) core.unspecified("ub-empty-buffer", site, "InitBuffer of 0 bytes");
    api::take_ub(end, {"InitBuffer", site});
    if (end > emulator::kUbBytes) throw emulator::Abandoned();
    if (++taken_ > api::kMaxBuffers) {
      core.error("buffer-count", site, "a TPipe holds at most 64 buffers");
    }
    return address;
  }

  Site site_;
  bool alive_ = true;
  const int outer_exceptions_ = std::uncaught_exceptions();  // those of the host, if it cleans up
  uint32_t taken_ = 0;
};

}  // namespace AscendC

inline AscendC::TPipe* GetTPipePtr() { return static_cast<AscendC::TPipe*>(api::library().pipe); }
