/* Calls of the kernel that were written down on another platform, made again here: do they give the same?
 *
 *     replay LIBRARY CALLS      prints the width of the library's vectors and the largest relative difference
 *     replay LIBRARY            prints what `ptycho_processor_level` answers
 *
 * recorded.py writes the file CALLS and says what it holds. All platforms of ours are little-endian. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

enum { ALIGNMENT = 64, MOST_STRUCTS = 4, WORK = 0, FLOATS = 1, DOUBLES = 2 };

static void fail(const char *what, const char *name) {
    fprintf(stderr, "%s: %s\n", what, name);
    exit(1);
}

#if defined(_WIN32)
static void *opened(const char *path) {
    HMODULE library = LoadLibraryA(path);
    if (!library) fprintf(stderr, "error %lu: ", GetLastError()), fail("cannot be loaded", path);
    return (void *)library;
}
static void *found(void *library, const char *name) { return (void *)GetProcAddress((HMODULE)library, name); }
#else
static void *opened(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail("cannot be loaded", dlerror());
    return library;
}
static void *found(void *library, const char *name) { return dlsym(library, name); }
#endif

static void *function_of(void *library, const char *name) {
    void *function = found(library, name);
    if (!function) fail("the library has no such function", name);
    return function;
}

static void read_into(void *to, size_t bytes, FILE *file) {
    if (bytes && fread(to, bytes, 1, file) != 1) fail("the calls end too early", "");
}

static int64_t read_number(FILE *file) {
    int64_t number;
    read_into(&number, sizeof number, file);
    return number;
}

static char *room(size_t bytes, size_t offset) {
    char *all = calloc(bytes + 2 * ALIGNMENT, 1);
    if (!all) fail("too little memory", "");
    return all + (ALIGNMENT - (uintptr_t)all % ALIGNMENT) + offset;
}

/* Largest difference over the largest value; of what holds no floats, whether any byte differs. */
static double difference(const char *is, const char *was, size_t bytes, int64_t kind) {
    if (kind != FLOATS && kind != DOUBLES) return memcmp(is, was, bytes) ? INFINITY : 0;
    const size_t step = kind == FLOATS ? sizeof(float) : sizeof(double);
    double off = 0, most = 0;
    for (size_t k = 0; k < bytes; k += step) {
        float x, y;
        double a, b;
        memcpy(&x, is + k, sizeof x), memcpy(&y, was + k, sizeof y), a = x, b = y;
        if (kind == DOUBLES) memcpy(&a, is + k, sizeof a), memcpy(&b, was + k, sizeof b);
        const double apart = fabs(a - b);
        if (isnan(a) != isnan(b) || !(apart <= off)) off = isnan(apart) ? INFINITY : apart;
        if (fabs(b) > most) most = fabs(b);
    }
    return off == 0 ? 0 : most > 0 ? off / most : INFINITY;
}

static double replayed(void *library, FILE *file) {
    char name[64] = {0}, *structs[MOST_STRUCTS];
    const int64_t letters = read_number(file);
    if (letters >= (int64_t)sizeof name) fail("no name is so long", "");
    read_into(name, (size_t)letters, file);
    const int64_t answers = read_number(file);
    double expected, worst = 0;
    read_into(&expected, sizeof expected, file);
    const int64_t n_blobs = read_number(file);
    char **blobs = calloc((size_t)n_blobs, sizeof *blobs), **after = calloc((size_t)n_blobs, sizeof *after);
    int64_t *bytes = calloc((size_t)n_blobs, sizeof *bytes), *kinds = calloc((size_t)n_blobs, sizeof *kinds);
    if (!blobs || !after || !bytes || !kinds) fail("too little memory", "");
    for (int64_t k = 0; k < n_blobs; k++) {
        bytes[k] = read_number(file), kinds[k] = read_number(file);
        blobs[k] = room((size_t)bytes[k], (size_t)read_number(file));
        if (kinds[k] == WORK) continue;
        after[k] = room((size_t)bytes[k], 0);
        read_into(blobs[k], (size_t)bytes[k], file), read_into(after[k], (size_t)bytes[k], file);
    }
    const int64_t n_structs = read_number(file);
    if (n_structs > MOST_STRUCTS) fail("no function takes so many structs", name);
    for (int64_t s = 0; s < n_structs; s++) {
        const int64_t size = read_number(file);
        structs[s] = room((size_t)size, 0);
        read_into(structs[s], (size_t)size, file);
        for (int64_t left = read_number(file); left > 0; left--) {
            const int64_t place = read_number(file), blob = read_number(file), inside = read_number(file);
            char *pointer = blobs[blob] + inside;
            memcpy(structs[s] + place, &pointer, sizeof pointer);
        }
    }
    void *function = function_of(library, name);
    double answer = 0;
    if (answers && n_structs == 2)
        answer = ((double (*)(void *, void *))function)(structs[0], structs[1]);
    else if (!answers && n_structs == 2)
        ((void (*)(void *, void *))function)(structs[0], structs[1]);
    else if (!answers && n_structs == 1)
        ((void (*)(void *))function)(structs[0]);
    else
        fail("this program knows no function of that kind", name);
    if (answers && !((worst = fabs(answer / expected - 1)) >= 0)) worst = INFINITY;
    for (int64_t k = 0; k < n_blobs; k++) {
        const double off = kinds[k] == WORK ? 0 : difference(blobs[k], after[k], (size_t)bytes[k], kinds[k]);
        if (off > worst) worst = off;
    }
    return worst;
}

int main(int count, char **words) {
    if (count < 2) fail("usage", "replay LIBRARY [CALLS]");
    void *library = opened(words[1]);
    if (count < 3) {
        printf("%d\n", (int)((int32_t (*)(void))function_of(library, "ptycho_processor_level"))());
        return 0;
    }
    FILE *file = fopen(words[2], "rb");
    if (!file) fail("cannot be read", words[2]);
    double worst = 0;
    const int64_t calls = read_number(file);
    for (int64_t k = 0; k < calls; k++) {
        const double off = replayed(library, file);
        if (off > worst) worst = off;
    }
    printf("%d %lld %.3e\n", (int)((int32_t (*)(void))function_of(library, "ptycho_vector_width"))(), (long long)calls,
           worst);
    return 0;
}
