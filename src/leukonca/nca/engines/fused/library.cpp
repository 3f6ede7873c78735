// The fused engine as plain C functions, called through library.py. Tensors come as addresses: neither
// PyTorch's headers nor a binding library are needed, which would take most of the time of a build.
#include <algorithm>
#include <new>

#include "backward.h"
#include "forward.h"
#include "layout.h"

namespace {

// What a call returns; library.py knows the numbers.
enum Outcome : int { kDone = 0, kNoMemory = 1, kNoHalf = 2 };

template <template <class> class Pass>
int run(const Job& job, bool half) try {
#if defined(__AVX512BF16__)
  if (half) {
    Pass<Half>(job).run();
    return kDone;
  }
#endif
  if (half) return kNoHalf;
  Pass<Full>(job).run();
  return kDone;
} catch (const std::bad_alloc&) {
  return kNoMemory;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int leukonca_forward(const Job* job, int half) { return run<Forward>(*job, half); }
EXPORTED int leukonca_backward(const Job* job, int half) { return run<Backward>(*job, half); }

// Between PyTorch's layout of a state and the engine's; see layout.h. `channels` are those without padding.
EXPORTED void leukonca_pack(const float* plain, float* packed, int batch, int channels, int rows, int columns, int threads) {
  pack(plain, packed, batch, channels, rows, columns, threads);
}
EXPORTED void leukonca_unpack(const float* packed, float* plain, int batch, int channels, int rows, int columns, int threads) {
  unpack(packed, plain, batch, channels, rows, columns, threads);
}

// Writes to `counts` (int64 [batch]) how many sites of each picture fire in all steps.
EXPORTED int leukonca_count_firing(const Job* job, int64_t* counts) try {
  std::vector<Buffer<int>> rooms;
  for (int i = 0; i < job->threads; ++i) rooms.emplace_back(static_cast<size_t>(job->rows) * job->columns + 1);
#pragma omp parallel for schedule(static) num_threads(job->threads)
  for (int picture = 0; picture < job->batch; ++picture) {
    int64_t count = 0;
    for (int step = job->first; step < job->last; ++step)
      count += firing_sites(at<uint32_t>(job->keys)[picture], step, 0, job->rows, job->columns, job->threshold,
                            rooms[this_thread()].data());
    counts[picture] = count;
  }
  return kDone;
} catch (const std::bad_alloc&) {
  return kNoMemory;
}

// Every thread multiplies kBlock rows with weights [depth, columns], multiples of kPad, `repeats` times: what the
// engine's product reaches alone.
template <class Format>
void multiply(int depth, int columns, int repeats, int threads) {
  const Buffer<float> ones(static_cast<size_t>(depth) * columns);
  std::fill_n(ones.data(), ones.size(), 1.0f);
  const Panels<Format> weights(depth, columns, ones.data(), columns, 1);
  std::vector<Buffer<typename Format::Number>> left;
  std::vector<Buffer<float>> out;
  for (int i = 0; i < threads; ++i) {
    left.emplace_back(static_cast<size_t>(kBlock) * deep(depth));
    out.emplace_back(static_cast<size_t>(kBlock) * columns);
  }
#pragma omp parallel num_threads(threads)
  {
    const Tiles tiles;
    float* room = out[this_thread()].data();
    for (int i = 0; i < repeats; ++i)
      weights.multiply(kBlock, left[this_thread()].data(), deep(depth), [&](int row, int column, Vec value) {
        store(room + static_cast<long>(row) * columns + column, value);
      });
  }
}

EXPORTED int leukonca_multiply(int half, int depth, int columns, int repeats, int threads) try {
#if defined(__AVX512BF16__)
  if (half) {
    multiply<Half>(depth, columns, repeats, threads);
    return kDone;
  }
#endif
  if (half) return kNoHalf;
  multiply<Full>(depth, columns, repeats, threads);
  return kDone;
} catch (const std::bad_alloc&) {
  return kNoMemory;
}

// Properties of the build.
EXPORTED int leukonca_job_bytes() { return sizeof(Job); }
EXPORTED int leukonca_width() { return kWidth; }
EXPORTED int leukonca_pad() { return kPad; }
EXPORTED int leukonca_hidden_pad() { return kDeepPad; }
EXPORTED int leukonca_block() { return kBlock; }
EXPORTED int leukonca_threaded() {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}
EXPORTED int leukonca_tiles() { return tiles_work(); }
