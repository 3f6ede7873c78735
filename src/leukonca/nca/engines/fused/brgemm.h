// ATen's bf16 product, which drives the matrix tiles (AMX) through oneDNN.
#pragma once

#include <cstdint>

// out [m, n] = left [m, k] · right, with right [k / 2, n, 2] (VNNI); n is 16, 32, 48 or 64, m always the same.
void brgemm_bf16(int64_t m, int64_t n, int64_t k, int64_t left_stride, const uint16_t* left, const uint32_t* right, float* out);

// Whether it can be used: oneDNN may be capped below what the processor has (ONEDNN_MAX_CPU_ISA).
bool brgemm_works();

// To be called by every thread after its last product: others may need the tiles' configuration.
void brgemm_done();
