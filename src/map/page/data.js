"use strict";
// What the page knows of images: the blobs in it, taken apart.

const FREE = new Set(["erased", "written", "stale"]);
const DAMAGE = new Set(["unreachable", "shared", "bad"]);
const CHANGES = ["same", "content", "use", "missing"];
const CHANGE_NAMES = ["the same", "other content", "other use", "only in this image"];

/** A number below zero is odd. */
const signed = (n) => (n % 2 ? -(n + 1) / 2 : n / 2);

/** Numbers and bytes, one after the other, as src/map/columns.rs writes them. */
class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  number() {
    let value = 0, scale = 1, byte;
    do { byte = this.bytes[this.at++]; value += (byte & 127) * scale; scale *= 128; } while (byte > 127);
    return value;
  }
  signed() { return signed(this.number()); }
  take(length) { return this.bytes.subarray(this.at, this.at += length); }
}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Blocks and tree of one image. */
class Image {
  constructor(bytes) {
    const reader = new Reader(bytes), text = new TextDecoder();
    Object.assign(this, JSON.parse(text.decode(reader.take(reader.number()))));
    this.readBlocks(reader);
    this.readNodes(reader, text);
    this.runsOf = null;
  }

  readBlocks(reader) {
    const runs = this.runs, count = this.present;
    const column = (read) => Array.from({ length: runs }, read);
    const lengths = column(() => reader.number());
    const classes = reader.take(runs), changes = reader.take(runs), fills = reader.take(runs);
    const owners = new Int32Array(runs);
    for (let r = 0, last = 0; r < runs; r++) owners[r] = last += reader.signed();
    const indices = column(() => reader.signed());
    const revisions = new Float64Array(runs);
    for (let r = 0, last = 0; r < runs; r++) {
      const step = this.classes[classes[r]].revision ? reader.number() : 0;
      revisions[r] = step ? last += signed(step - 1) : -1;
    }
    this.start = new Uint32Array(runs + 1);
    this.runAt = new Uint32Array(count);
    this.index = new Uint32Array(count);
    const next = new Map();
    for (let r = 0, at = 0; r < runs; r++) {
      this.start[r] = at;
      const isData = this.classes[classes[r]].id === "data";
      let index = (next.get(owners[r]) || 0) + indices[r];
      for (const end = at + lengths[r]; at < end; at++) {
        this.runAt[at] = r;
        if (isData) this.index[at] = index++;
      }
      if (isData) next.set(owners[r], index);
    }
    this.start[runs] = count;
    Object.assign(this, { lengths, runClass: classes, runChange: changes, runFill: fills, runOwner: owners,
      runRevision: revisions });
  }

  readNodes(reader, text) {
    const column = (read) => Array.from({ length: this.nodes }, read);
    const ups = column(() => reader.number()), kinds = reader.take(this.nodes);
    const sizes = column(() => reader.number());
    let last = 0;
    const blocks = column(() => last += reader.signed());
    const hidden = column(() => reader.number()), lengths = column(() => reader.number());
    this.entriesOf = new Map();
    this.node = ups.map((up, n) => ({
      parent: up ? n - up : -1, kind: this.kinds[kinds[n]], size: sizes[n], block: blocks[n] - 1, hidden: hidden[n],
      name: text.decode(reader.take(lengths[n])), children: [],
    }));
    this.node.forEach(({ parent, block }, n) => {
      if (parent >= 0) this.node[parent].children.push(n);
      if (block < 0) return;
      if (!this.entriesOf.has(block)) this.entriesOf.set(block, []);
      this.entriesOf.get(block).push(n);
    });
    const order = (a, b) => {
      const [one, two] = [this.node[a], this.node[b]];
      return (one.kind !== "dir") - (two.kind !== "dir") || (one.name < two.name ? -1 : 1);
    };
    for (const node of this.node) node.children.sort(order);
    this.roots = this.node.flatMap((node, n) => (node.parent < 0 ? [n] : []));
  }

  class(block) { return this.classes[this.runClass[this.runAt[block]]]; }
  change(block) { return this.runChange[this.runAt[block]]; }
  fill(block) { return this.runFill[this.runAt[block]]; }
  owner(block) { return this.runOwner[this.runAt[block]] - 1; }
  revision(block) { return this.runRevision[this.runAt[block]]; }

  path(n) {
    const parts = [];
    for (let at = n; at >= 0; at = this.node[at].parent) parts.unshift(this.node[at].name);
    return parts.length === 1 && parts[0] === "" ? "/" : parts.join("/");
  }

  /** What a block belongs to, in words; entries that are left out are counted at their directory. */
  belongs(block) {
    const n = this.owner(block);
    if (n < 0) return "";
    const inside = this.class(block).id === "data" && this.node[n].kind === "dir";
    return (inside ? "a file below " : "") + this.path(n);
  }

  /** Runs of blocks of each file, those with most first. */
  fragmented() {
    if (this.runsOf) return this.runsOf;
    const runs = new Map();
    for (let r = 0; r < this.runs; r++) {
      const n = this.runOwner[r] - 1;
      if (n < 0 || this.classes[this.runClass[r]].id !== "data" || this.node[n].kind === "dir") continue;
      const at = this.start[r], before = at > 0 && this.owner(at - 1) === n;
      const goesOn = before && this.index[at - 1] + 1 === this.index[at];
      runs.set(n, (runs.get(n) || 0) + (goesOn ? 0 : 1));
    }
    this.runsOf = [...runs].sort((a, b) => b[1] - a[1]);
    return this.runsOf;
  }
}
