/* Which level of x86-64's instructions may be used here, numbered as in its psABI: 1 (every processor), 2, 3 (AVX2,
 * FMA) or 4 (AVX-512). Compiled for level 1, so that every processor can answer. A level counts only where the
 * system keeps its registers too, which XCR0 tells. */
#include <cpuid.h>
#include <stdint.h>

#define BIT(n) (1u << (n))

static int has(unsigned found, unsigned wanted) { return (found & wanted) == wanted; }

static unsigned kept_registers(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

int32_t ptycho_processor_level(void) {
    unsigned a, b, c, d, features, more = 0, wide = 0;
    if (!__get_cpuid(1, &a, &b, &features, &d)) return 1;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) more = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) wide = b;
    /* SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF */
    if (!has(features, BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(23)) || !has(more, BIT(0))) return 1;
    /* FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT */
    if (!has(features, BIT(12) | BIT(22) | BIT(27) | BIT(28) | BIT(29)) || !has(wide, BIT(3) | BIT(5) | BIT(8)) ||
        !has(more, BIT(5)) || !has(kept_registers(), 0x06))
        return 2;
    /* AVX-512 F, DQ, CD, BW, VL */
    if (!has(wide, BIT(16) | BIT(17) | BIT(28) | BIT(30) | BIT(31)) || !has(kept_registers(), 0xe6)) return 3;
    return 4;
}
