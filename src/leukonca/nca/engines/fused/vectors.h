// Vectors of float32, and the two number formats of the products.
//
// The file is compiled for one instruction set, chosen by the flags (see levels.py): the widest vectors that
// it has, and as many rows in a register tile as its registers hold. GCC's and Clang's vector extensions do
// the rest; only bf16 needs intrinsics.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int kWidth = 16;
constexpr int kTileRows = 8;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
constexpr int kTileRows = 4;
#elif defined(__aarch64__)
constexpr int kWidth = 4;
constexpr int kTileRows = 8;
#else
constexpr int kWidth = 4;
constexpr int kTileRows = 4;
#endif

// Channels and hidden units are padded to whole multiples of this, whatever the width.
constexpr int kPad = 16;

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef float VecInMemory __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

inline Vec load(const float* from) { return *reinterpret_cast<const VecInMemory*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<VecInMemory*>(to) = value; }
inline Vec broadcast(float value) { return value - Vec{}; }  // x - 0 is x for every x, also -0; x + 0 is not

// Written so that NaN stays NaN, as in PyTorch's ReLU.
inline Vec relu(Vec value) { return value < 0.0f ? Vec{} : value; }

// A 64-byte aligned array of zeros that is not copied.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : count_(count) {
    data_ = static_cast<T*>(::operator new(bytes(), std::align_val_t(64)));
    clear();
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }
  T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t index) const { return data_[index]; }
  void clear() { std::memset(static_cast<void*>(data_), 0, bytes()); }

 private:
  size_t bytes() const { return count_ * sizeof(T) + 64; }
  T* data_ = nullptr;
  size_t count_ = 0;
};

// A number format of the products. Products walk over 32-bit "lanes": one float32, or two neighbouring bf16.
// Every format multiplies with float32 accumulation.
struct Full {
  using Number = float;
  static constexpr int kPerLane = 1;
  using Lane = float;
  using LaneVec = Vec;

  static LaneVec lanes(const Lane* from) { return load(from); }
  static LaneVec spread(const Lane* from) { return broadcast(*from); }
  static Vec multiply_add(LaneVec left, LaneVec right, Vec sum) { return sum + left * right; }
  static void put(Number* to, Vec value) { store(to, value); }
  static Vec get(const Number* from) { return load(from); }
  static Number round(float value) { return value; }
};

#if defined(__AVX512BF16__)
struct Half {
  using Number = uint16_t;  // the bits of a bf16
  static constexpr int kPerLane = 2;
  using Lane = uint32_t;
  using LaneVec = __m512i;

  static LaneVec lanes(const Lane* from) { return _mm512_loadu_si512(from); }
  static void store_lanes(Lane* to, LaneVec value) { _mm512_storeu_si512(to, value); }
  // Lanes of two sites' numbers side by side; nullptr stands for zeros.
  static LaneVec join(const Number* one, const Number* two) {
    const auto wide = [](const Number* from) {
      return from ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))) : _mm512_setzero_si512();
    };
    return _mm512_or_si512(wide(one), _mm512_slli_epi32(wide(two), 16));
  }
  static LaneVec spread(const Lane* from) { return _mm512_set1_epi32(static_cast<int>(*from)); }
  static Vec multiply_add(LaneVec left, LaneVec right, Vec sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
  }
  static void put(Number* to, Vec value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
  }
  static Vec get(const Number* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Number round(float value) {  // to nearest, ties to even; NaN stays NaN
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<Number>((bits >> 16) | 0x40);
    return static_cast<Number>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
  }
};
#endif
