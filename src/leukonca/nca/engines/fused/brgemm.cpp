// The only unit that needs PyTorch's headers; built only where the processor has matrix tiles.
#include "brgemm.h"

#include <ATen/native/CPUBlas.h>

#include <exception>
#include <vector>

void brgemm_bf16(int64_t m, int64_t n, int64_t k, int64_t left_stride, const uint16_t* left, const uint32_t* right, float* out) {
  at::native::cpublas::brgemm(m, n, k, left_stride, /*ld_b=*/n, /*ld_c=*/n, /*add_C=*/false,
                              reinterpret_cast<const at::BFloat16*>(left), reinterpret_cast<const at::BFloat16*>(right), out);
}

bool brgemm_works() {
  static const bool works = [] {
    constexpr uint16_t one = 0x3F80;
    std::vector<uint16_t> left(64 * 32, one);
    std::vector<uint32_t> right(16 * 16, one << 16 | one);
    std::vector<float> out(64 * 16);
    try {
      brgemm_bf16(64, 16, 32, 32, left.data(), right.data(), out.data());
      brgemm_done();
    } catch (const std::exception&) {
      return false;
    }
    return out.front() == 32.0f && out.back() == 32.0f;
  }();
  return works;
}

void brgemm_done() { at::native::cpublas::brgemm_release(); }
