// Where blocks are in the picture, and their colours.

/** Cells of a picture: `cells` has the place of each block, 16 bits of its row and 16 of its column. */
class Grid {
  constructor(count, place) {
    this.cells = new Uint32Array(count);
    let [width, height] = [1, 1];
    for (let block = 0; block < count; block++) {
      const cell = place(block), x = cell & 0xffff, y = cell >>> 16;
      this.cells[block] = cell;
      if (x >= width) width = x + 1;
      if (y >= height) height = y + 1;
    }
    Object.assign(this, { width, height });
  }
  corner(block) { return [this.cells[block] & 0xffff, this.cells[block] >>> 16]; }
}

/** Blocks along a Hilbert curve, so that neighbours stay neighbours at every scale. */
class Hilbert extends Grid {
  constructor(count) {
    let side = 1;
    while (side * side < count) side *= 2;
    super(count, (block) => {
      let x = 0, y = 0, rest = block;
      for (let s = 1; s < side; s *= 2) {
        const rx = 1 & (rest >>> 1), ry = 1 & (rest ^ rx);
        if (!ry) {
          if (rx) { x = s - 1 - x; y = s - 1 - y; }
          const old = x;
          x = y;
          y = old;
        }
        x += s * rx;
        y += s * ry;
        rest >>>= 2;
      }
      return (y << 16 | x) >>> 0;
    });
    this.side = side;
    // a curve that fills half of the square lies down
    this.turned = this.height > this.width;
    if (!this.turned) return;
    [this.width, this.height] = [this.height, this.width];
    for (let block = 0; block < count; block++) this.cells[block] = (this.cells[block] << 16 | this.cells[block] >>> 16) >>> 0;
  }
  block(column, row) {
    let [x, y] = this.turned ? [row, column] : [column, row];
    let block = 0;
    for (let s = this.side / 2; s >= 1; s /= 2) {
      const rx = x & s ? 1 : 0, ry = y & s ? 1 : 0;
      block += s * s * ((3 * rx) ^ ry);
      if (!ry) {
        if (rx) { x = this.side - 1 - x; y = this.side - 1 - y; }
        [x, y] = [y, x];
      }
    }
    return block;
  }
}

/** Blocks in rows. */
class Rows extends Grid {
  constructor(count) {
    let width = 1;
    while (width * width < count) width *= 2;
    super(count, (block) => (Math.floor(block / width) << 16 | block % width) >>> 0);
    this.width = width;
  }
  block(x, y) { return y * this.width + x; }
}

const LOOKS = {
  light: {
    erased: "#e3e7ec", written: "#bcc5cf", stale: "#a294bd", data: "#3d85c6", other: "#98d273", live: "#38761d",
    "superblock-other": "#ffd966", "superblock-live": "#e69f00", unreachable: "#7a3fa0", shared: "#d5430e", bad: "#000000",
    back: "#f6f7f9", ramp: ["#e9f2dc", "#8fd0a3", "#3ba6a3", "#2b6a9b", "#2c2a6b"],
    change: ["#dfe3e8", "#f0a030", "#d0006f", "#4d2c91"],
  },
  dark: {
    erased: "#2a3037", written: "#4a535d", stale: "#6c5f8a", data: "#4f9be0", other: "#3f7a2a", live: "#86d65a",
    "superblock-other": "#9c7a1c", "superblock-live": "#ffc53d", unreachable: "#b478e0", shared: "#ff6a3d", bad: "#ffffff",
    back: "#14171b", ramp: ["#2f3a63", "#2f6f9b", "#39a6a0", "#93d48f", "#f3f0a8"],
    change: ["#2a3037", "#f0a030", "#ff5fb0", "#b9a2ff"],
  },
  grey: {
    erased: "#ececec", written: "#d4d4d4", stale: "#bebebe", data: "#9c9c9c", other: "#7f7f7f", live: "#4f4f4f",
    "superblock-other": "#686868", "superblock-live": "#2e2e2e", unreachable: "#1c1c1c", shared: "#101010", bad: "#000000",
    back: "#ffffff", ramp: ["#e0e0e0", "#bcbcbc", "#909090", "#585858", "#161616"],
    change: ["#ececec", "#a0a0a0", "#3a3a3a", "#000000"],
  },
};

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const mix = (a, b, share) => a.map((value, i) => Math.round(value + (b[i] - value) * share));
const css = (colour) => `rgb(${colour.join(",")})`;

function onRamp(ramp, share) {
  const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1), low = Math.min(Math.floor(at), ramp.length - 2);
  return mix(rgb(ramp[low]), rgb(ramp[low + 1]), at - low);
}
