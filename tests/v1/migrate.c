// lfs_migrate of the C driver over a file: migrate IMAGE BLOCK_SIZE BLOCK_COUNT.
#include "lfs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *image;

static int bd_read(const struct lfs_config *c, lfs_block_t block, lfs_off_t off, void *buffer,
                   lfs_size_t size) {
    memcpy(buffer, image + (size_t)block * c->block_size + off, size);
    return 0;
}

static int bd_prog(const struct lfs_config *c, lfs_block_t block, lfs_off_t off,
                   const void *buffer, lfs_size_t size) {
    memcpy(image + (size_t)block * c->block_size + off, buffer, size);
    return 0;
}

static int bd_erase(const struct lfs_config *c, lfs_block_t block) {
    memset(image + (size_t)block * c->block_size, 0xff, c->block_size);
    return 0;
}

static int bd_sync(const struct lfs_config *c) {
    (void)c;
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 100;
    }
    struct lfs_config cfg = {
        .read = bd_read, .prog = bd_prog, .erase = bd_erase, .sync = bd_sync,
        .read_size = 16, .prog_size = 16, .cache_size = 16, .lookahead_size = 64,
        .block_size = atoi(argv[2]), .block_count = atoi(argv[3]), .block_cycles = -1,
    };
    size_t size = (size_t)cfg.block_size * cfg.block_count;
    image = malloc(size);
    FILE *f = fopen(argv[1], "r+b");
    if (!image || !f || fread(image, 1, size, f) != size) {
        return 101;
    }
    lfs_t lfs;
    memset(&lfs, 0, sizeof(lfs));
    int err = lfs_migrate(&lfs, &cfg);
    rewind(f);
    if (fwrite(image, 1, size, f) != size || fclose(f)) {
        return 102;
    }
    return -err;
}
