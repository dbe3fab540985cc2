// The page of `littlefs map`: map, tree and facts. Everything it shows comes from the blobs in it; names are
// only ever set as text, never as HTML.

const ROW = 22;
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "role") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

class Page {
  constructor(images) {
    this.images = images;
    this.image = images[0];
    this.view = { scale: 1, x: 0, y: 0 };
    this.cursor = -1;
    this.marked = null;
    this.selected = -1;
    this.open = new Set();
    this.canvas = $("map");
    this.pixels = document.createElement("canvas");
    this.controls();
    this.pointer();
    this.treeEvents();
    this.look();
    this.show(this.image);
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    this.resize();
    this.fit();
  }

  /* -- what is shown -- */

  show(image) {
    this.image = image;
    this.marked = null;
    this.selected = -1;
    this.open = new Set(image.roots.filter((n) => image.node[n].name === ""));
    const kib = image.block_size * image.block_count / 1024, units = ["KiB", "MiB", "GiB"];
    const unit = kib >= 1048576 ? 2 : kib >= 1024 ? 1 : 0;
    const size = `${+(kib / 1024 ** unit).toFixed(1)} ${units[unit]}`;
    const missing = image.summary.missing ? `, of which ${image.summary.missing} are missing at the end` : "";
    $("headline").textContent = `${image.block_count} blocks of ${image.block_size} bytes (${size})${missing}`;
    this.order();
    this.legend();
    this.freeSpace();
    this.fragments();
    this.problems();
    this.list();
    this.cursor = this.cursor < image.present ? this.cursor : -1;
    this.describe();
    this.paint();
  }

  order() {
    this.grid = new ($("order").value === "linear" ? Rows : Hilbert)(this.image.present);
  }

  look() {
    const chosen = $("theme").value;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const name = chosen === "auto" ? (dark ? "dark" : "light") : chosen;
    document.documentElement.dataset.look = name;
    this.colours = LOOKS[name];
    this.markColour = getComputedStyle(document.documentElement).getPropertyValue("--mark").trim();
  }

  /** The colour of a run, before marks. */
  colourOf(image, run) {
    const cls = image.classes[image.runClass[run]];
    switch ($("colour").value) {
      case "revision": {
        const revision = image.runRevision[run];
        if (revision < 0) return mix(rgb(this.colours.erased), rgb(this.colours.back), 0.2);
        const { min, max } = this.revisions();
        return onRamp(this.colours.ramp, Math.log2(1 + revision - min) / Math.max(Math.log2(1 + max - min), 1));
      }
      case "fill":
        return onRamp(this.colours.ramp, image.runFill[run] / 100);
      case "change":
        return rgb(this.colours.change[image.runChange[run]]);
      default:
        return rgb(this.colours[cls.id]);
    }
  }

  revisions() {
    if (!this.image.range) {
      const all = this.image.runRevision.filter((revision) => revision >= 0);
      this.image.range = { min: all.reduce((a, b) => Math.min(a, b), Infinity), max: all.reduce((a, b) => Math.max(a, b), 0) };
      if (!all.length) this.image.range.min = 0;
    }
    return this.image.range;
  }

  /** One pixel for each block; blocks that are not marked fade when others are. */
  paint() {
    const { image, grid } = this;
    Object.assign(this.pixels, { width: grid.width, height: grid.height });
    const context = this.pixels.getContext("2d");
    const data = context.createImageData(grid.width, grid.height);
    const words = new Uint32Array(data.data.buffer), back = rgb(this.colours.back);
    const word = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    this.runColours = [];
    for (let run = 0; run < image.runs; run++) {
      const colour = this.colourOf(image, run);
      this.runColours.push(colour);
      const full = word(colour), faded = word(mix(colour, back, 0.62));
      for (let b = image.start[run]; b < image.start[run + 1]; b++) {
        const cell = grid.cells[b];
        words[(cell >>> 16) * grid.width + (cell & 0xffff)] = this.marked && !this.marked.has(b) ? faded : full;
      }
    }
    context.putImageData(data, 0, 0);
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.drawNow(); });
  }

  drawNow() {
    const { canvas, view, grid, image } = this, context = canvas.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = this.colours.back;
    context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (view.scale >= 6) this.drawBlocks(context);
    else {
      context.imageSmoothingEnabled = view.scale < 1;
      context.imageSmoothingQuality = "high";
      context.drawImage(this.pixels, view.x, view.y, grid.width * view.scale, grid.height * view.scale);
      this.drawSigns(context);
    }
    if (this.cursor >= 0) {
      const [x, y] = this.corner(this.cursor), size = Math.max(view.scale, 5);
      context.lineWidth = 2;
      context.strokeStyle = this.markColour;
      context.strokeRect(x - 1.5, y - 1.5, size + 3, size + 3);
    }
    document.body.dataset.drawn = `${image.label}:${Math.round(view.scale * 100) / 100}`;
  }

  corner(block) {
    const { view } = this, [x, y] = this.grid.corner(block);
    return [view.x + x * view.scale, view.y + y * view.scale];
  }

  /** Blocks that are large enough for a frame, what is written in them, and letters. */
  drawBlocks(context) {
    const { view, grid, image, canvas } = this, size = view.scale, gap = size > 24 ? 2 : 1;
    const from = (offset) => Math.max(0, Math.floor(-offset / size));
    const to = (offset, length, most) => Math.min(most, Math.ceil((length - offset) / size));
    const back = rgb(this.colours.back);
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let row = from(view.y); row < to(view.y, canvas.clientHeight, grid.height); row++) {
      for (let column = from(view.x); column < to(view.x, canvas.clientWidth, grid.width); column++) {
        const block = grid.block(column, row);
        if (block >= image.present) continue;
        const x = view.x + column * size, y = view.y + row * size, inner = size - gap;
        const faded = this.marked && !this.marked.has(block) ? 0.62 : 0;
        const colour = mix(this.runColours[image.runAt[block]], back, faded);
        const cls = image.class(block);
        if (size >= 14 && $("colour").value === "use" && !FREE.has(cls.id)) {
          const written = inner * image.fill(block) / 100;
          context.fillStyle = css(mix(colour, back, 0.55));
          context.fillRect(x, y, inner, inner - written);
          context.fillStyle = css(colour);
          context.fillRect(x, y + inner - written, inner, written);
        } else {
          context.fillStyle = css(colour);
          context.fillRect(x, y, inner, inner);
        }
        if (image.change(block)) {
          context.lineWidth = Math.min(2, size / 6);
          context.strokeStyle = this.markColour;
          context.strokeRect(x + 1, y + 1, inner - 2, inner - 2);
        }
        if (size >= 16 && (size >= 44 || cls.letter !== ".")) this.drawLetters(context, block, x, y, inner, colour);
      }
    }
  }

  drawLetters(context, block, x, y, inner, colour) {
    const { image } = this, bright = colour[0] * 0.3 + colour[1] * 0.59 + colour[2] * 0.11 > 140;
    const fill = image.fill(block), dim = fill < 50 && $("colour").value === "use" && !FREE.has(image.class(block).id);
    const onBack = rgb(this.colours.back)[0] > 128;
    context.fillStyle = (dim ? onBack : bright) ? "#000" : "#fff";
    const lines = [image.class(block).letter];
    if (inner >= 44) lines.push("0x" + block.toString(16));
    if (inner >= 90) {
      if (image.revision(block) >= 0) lines.push("rev " + image.revision(block));
      const n = image.owner(block);
      if (n >= 0) lines.push(image.node[n].name || "/");
    }
    const height = inner >= 200 ? 15 : inner >= 44 ? 11 : Math.min(12, Math.round(inner * 0.7)), step = height * 1.3;
    context.font = `${height}px ui-monospace, monospace`;
    lines.forEach((text, i) => {
      context.fillText(text.slice(0, Math.max(6, inner / 7)), x + inner / 2, y + inner / 2 + (i - (lines.length - 1) / 2) * step, inner);
    });
  }

  /** Signs for what one would not see: damaged blocks, and marked ones when there are few of them. */
  drawSigns(context) {
    const { image, view } = this;
    const sign = (block, colour) => {
      const [x, y] = this.corner(block), size = Math.max(view.scale, 3);
      context.fillStyle = colour;
      context.fillRect(x - (size - view.scale) / 2, y - (size - view.scale) / 2, size, size);
    };
    if (this.marked && this.marked.size < 4000 && view.scale < 3) {
      for (const block of this.marked) sign(block, css(this.runColours[image.runAt[block]]));
    }
    let left = 4000;
    for (let run = 0; run < image.runs && left > 0; run++) {
      if (!DAMAGE.has(image.classes[image.runClass[run]].id)) continue;
      for (let b = image.start[run]; b < image.start[run + 1] && left-- > 0; b++) sign(b, this.colours.shared);
    }
  }

  /* -- moving about -- */

  resize() {
    const { canvas } = this, ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      if (this.fitted) this.fit();
    }
    this.draw();
  }

  /** Bytes of room on each side of the picture, in pixels. */
  fit() {
    const { canvas, grid, view } = this, margin = 12;
    view.scale = Math.max(Math.min((canvas.clientWidth - 2 * margin) / grid.width, (canvas.clientHeight - 2 * margin) / grid.height), 0.01);
    if (view.scale > 1) view.scale = Math.min(Math.floor(view.scale), 64);
    view.x = Math.round((canvas.clientWidth - grid.width * view.scale) / 2);
    view.y = Math.round((canvas.clientHeight - grid.height * view.scale) / 2);
    this.fitted = true;
    this.draw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const { view, canvas, grid } = this;
    const least = Math.min(canvas.clientWidth / grid.width, canvas.clientHeight / grid.height, 1) / 2;
    // one block fills the canvas
    const most = Math.max(Math.min(canvas.clientWidth, canvas.clientHeight) * 0.9, 64);
    const scale = Math.min(Math.max(view.scale * factor, least), most), by = scale / view.scale;
    Object.assign(view, { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by });
    this.fitted = false;
    this.draw();
  }

  blockAt(x, y) {
    const { view, grid } = this;
    const column = Math.floor((x - view.x) / view.scale), row = Math.floor((y - view.y) / view.scale);
    if (column < 0 || row < 0 || column >= grid.width || row >= grid.height) return -1;
    const block = grid.block(column, row);
    return block < this.image.present ? block : -1;
  }

  /** Bring a block into view without zooming further than needed. */
  reveal(block, least = 0) {
    const { view, canvas } = this;
    if (view.scale < least) this.zoom(least / view.scale);
    const [x, y] = this.corner(block), margin = Math.min(40, canvas.clientWidth / 4);
    const inside = (at, length) => at >= margin && at + view.scale <= length - margin;
    const half = view.scale / 2;
    if (!inside(x, canvas.clientWidth)) { view.x += canvas.clientWidth / 2 - x - half; this.fitted = false; }
    if (!inside(y, canvas.clientHeight)) { view.y += canvas.clientHeight / 2 - y - half; this.fitted = false; }
    this.draw();
  }

  choose(block, { mark = true, least = 0 } = {}) {
    if (block < 0 || block >= this.image.present) return;
    this.cursor = block;
    this.reveal(block, least);
    this.describe();
    const owner = this.image.owner(block);
    if (mark && owner >= 0) this.select(owner, { toMap: false });
    else if (mark) this.mark(null);
    this.draw();
  }

  mark(blocks, pressed = null) {
    this.marked = blocks && blocks.size ? blocks : null;
    for (const line of document.querySelectorAll(".line[aria-pressed='true']")) line.setAttribute("aria-pressed", "false");
    if (pressed && this.marked) pressed.setAttribute("aria-pressed", "true");
    this.paint();
  }

  markRuns(wanted, pressed = null) {
    const { image } = this, blocks = new Set();
    for (let run = 0; run < image.runs; run++) {
      if (wanted(run)) for (let b = image.start[run]; b < image.start[run + 1]; b++) blocks.add(b);
    }
    const again = pressed && pressed.getAttribute("aria-pressed") === "true";
    this.mark(again ? null : blocks, pressed);
    return blocks;
  }

  /* -- facts -- */

  facts(block) {
    const { image } = this, cls = image.class(block), facts = [];
    facts.push(["Address", `${block} (0x${block.toString(16)})`], ["Use", cls.name]);
    const belongs = image.belongs(block);
    if (belongs) facts.push(["Owner", belongs]);
    if (cls.id === "data") facts.push(["Place", `block ${image.index[block]} of its list`]);
    if (image.revision(block) >= 0) facts.push(["Revision", String(image.revision(block))]);
    facts.push(["Written", `${image.fill(block)} %`]);
    if (image.change(block)) {
      facts.push(["Difference", CHANGE_NAMES[image.change(block)]]);
      const other = this.images.find((one) => one !== image);
      if (other && block < other.present) {
        const owner = other.belongs(block);
        facts.push([`In ${other.label}`, other.class(block).name + (owner ? `, ${owner}` : "")]);
      }
    }
    return facts;
  }

  describe() {
    const { image, cursor } = this;
    if (cursor < 0) {
      $("block").replaceChildren(element("p", {}, "Point at a block, or go to one with the arrow keys."));
      $("status").textContent = "";
      return;
    }
    const facts = this.facts(cursor), list = element("dl");
    for (const [name, value] of facts) {
      const shown = element("dd", {}, value);
      list.append(element("dt", {}, name), shown);
      if (name === "Owner") {
        const owner = image.owner(cursor);
        shown.replaceChildren(element("a", { href: "#", onclick: (e) => { e.preventDefault(); this.select(owner); } }, value));
      }
    }
    const inside = (image.entriesOf.get(cursor) || []);
    if (inside.length && image.class(cursor).letter !== "d") {
      const names = inside.slice(0, 12).map((n) => image.node[n].name).join(", ");
      const more = inside.length > 12 ? `, and ${inside.length - 12} more` : "";
      list.append(element("dt", {}, "Entries"), element("dd", {}, names + more));
    }
    const command = element("code", {}, `${image.command}block 0x${cursor.toString(16)}`);
    $("block").replaceChildren(list, element("p", {}, command));
    $("status").textContent = facts.map(([name, value]) => (name === "Written" ? `${value} written` : value)).join(" · ");
  }

  line(label, count, pressed, ...before) {
    const made = element("button", { type: "button", className: "line", "aria-pressed": "false" }, ...before,
      element("span", { className: "label", title: label }, label), element("span", { className: "count" }, count));
    made.onclick = () => pressed(made);
    return made;
  }

  swatch(colour) {
    const made = element("span", { className: "swatch" });
    made.style.background = colour;
    return made;
  }

  legend() {
    const { image } = this, mode = $("colour").value;
    if (mode === "revision" || mode === "fill") {
      const ramp = element("div", { className: "ramp" });
      ramp.style.background = `linear-gradient(to right, ${this.colours.ramp.join(",")})`;
      const { min, max } = this.revisions();
      const [low, high] = mode === "fill" ? ["empty", "full"] : [`revision ${min}`, `revision ${max}`];
      const ends = element("div", { className: "ends" }, element("span", {}, low), element("span", {}, high));
      const words = mode === "fill" ? "How much of each block is written." : "How often each metadata block was written (logarithmic). Other blocks have no revision.";
      $("legend").replaceChildren(ramp, ends, element("p", {}, words));
      return;
    }
    if (mode === "change") {
      const counts = [0, 0, 0, 0];
      for (let run = 0; run < image.runs; run++) counts[image.runChange[run]] += image.lengths[run];
      const lines = CHANGES.map((_, n) => this.line(CHANGE_NAMES[n], String(counts[n]),
        (made) => this.markRuns((run) => image.runChange[run] === n, made), this.swatch(this.colours.change[n])));
      $("legend").replaceChildren(...lines.filter((_, n) => counts[n]));
      return;
    }
    const lines = [];
    image.classes.forEach((cls, number) => {
      const count = image.summary.classes[cls.id];
      if (!count) return;
      lines.push(this.line(`${cls.letter}  ${cls.name}`, String(count),
        (made) => this.markRuns((run) => image.runClass[run] === number, made), this.swatch(this.colours[cls.id])));
    });
    $("legend").replaceChildren(...lines.reverse());
  }

  freeSpace() {
    const { image } = this, { free } = image.summary;
    const most = Math.max(...free.histogram.map((extent) => extent.blocks), 1);
    const lines = free.histogram.map((extent) => {
      const to = extent.from * 2 - 1, bar = element("span", { className: "bar" });
      bar.style.width = `${100 * extent.blocks / most}%`;
      bar.style.display = "block";
      const label = to > extent.from ? `${extent.from} to ${to}` : String(extent.from);
      const count = `${extent.extents} · ${extent.blocks}`;
      return this.line(label, count, (made) => this.markFree(extent.from, to, made),
        element("span", { className: "track" }, bar));
    });
    const several = `${free.count} runs, of ${free.min} to ${free.max} blocks, ${free.mean.toFixed(1)} on average.`;
    const words = free.count > 1 ? several : free.count ? `One run, of ${free.max} blocks.` : "No block is free.";
    const ends = element("div", { className: "ends" }, element("span", {}, "blocks in a run"), element("span", {}, "runs · blocks"));
    $("free").replaceChildren(ends, ...lines, element("p", {}, words));
  }

  markFree(from, to, pressed) {
    const { image } = this, wanted = new Set();
    let first = 0;
    const isFree = (run) => run < image.runs && FREE.has(image.classes[image.runClass[run]].id);
    for (let run = 0; run < image.runs; run = first + 1) {
      first = run;
      while (isFree(first)) first++;
      const length = image.start[first] - image.start[run];
      if (length >= from && length <= to) for (let r = run; r < first; r++) wanted.add(r);
    }
    this.markRuns((run) => wanted.has(run), pressed);
  }

  fragments() {
    const { image } = this, { files, fragmented, runs_per_file } = image.summary;
    const share = files ? Math.round(100 * fragmented / files) : 0;
    const words = files ? `${fragmented} of ${files} files with blocks are in more than one run (${share} %); ${runs_per_file.toFixed(2)} runs for each file on average.` : "No file has blocks of its own.";
    const worst = image.fragmented().filter(([, runs]) => runs > 1).slice(0, 8);
    const lines = worst.map(([n, runs]) => this.line(image.path(n), `${runs} runs`, () => this.select(n)));
    $("fragments").replaceChildren(element("p", {}, words), ...lines);
  }

  problems() {
    const { problems, more_problems } = this.image;
    if (!problems.length) return $("problems").replaceChildren();
    const lines = problems.map((problem) => element("p", { className: "problem" }, `${problem.place}: ${problem.message}`));
    if (more_problems) lines.push(element("p", {}, `and ${more_problems} more`));
    $("problems").replaceChildren(element("h2", {}, "Problems"), ...lines);
  }

  /* -- the tree: only the rows in sight are there -- */

  list() {
    const { image } = this, wanted = $("find").value.trim().toLowerCase();
    this.shown = [];
    if (wanted) {
      image.node.forEach((node, n) => { if (node.name.toLowerCase().includes(wanted)) this.shown.push([n, 0]); });
    } else {
      const todo = image.roots.map((n) => [n, 0]).reverse();
      while (todo.length) {
        const [n, depth] = todo.pop();
        this.shown.push([n, depth]);
        if (!this.open.has(n)) continue;
        const { children } = image.node[n];
        for (let i = children.length - 1; i >= 0; i--) todo.push([children[i], depth + 1]);
      }
    }
    $("rows").style.height = `${this.shown.length * ROW}px`;
    this.rows();
  }

  rows() {
    const tree = $("tree"), first = Math.max(0, Math.floor(tree.scrollTop / ROW) - 4);
    const last = Math.min(this.shown.length, first + Math.ceil(tree.clientHeight / ROW) + 8);
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.row(at));
    $("rows").replaceChildren(...rows);
  }

  row(at) {
    const { image } = this, [n, depth] = this.shown[at], node = image.node[n], isDir = node.kind === "dir";
    const twist = isDir && (node.children.length || node.hidden) ? (this.open.has(n) ? "▾" : "▸") : "";
    const name = $("find").value.trim() ? image.path(n) : node.name || "/";
    const size = isDir ? (node.hidden ? `${node.hidden} not listed` : "") : `${node.size} B`;
    const row = element("div", { className: node.kind === "other" ? "row quiet" : "row", id: `row${n}`, role: "treeitem", title: image.path(n),
      "aria-level": String(depth + 1), "aria-selected": String(n === this.selected) },
      element("span", { className: "twist" }, twist), element("span", { className: "name" }, name), element("span", { className: "size" }, size));
    if (isDir) row.setAttribute("aria-expanded", String(this.open.has(n)));
    row.style.top = `${at * ROW}px`;
    row.style.paddingLeft = `${8 + depth * 14}px`;
    row.onclick = (e) => {
      if (isDir && e.target.className === "twist") this.toggle(n);
      else this.select(n);
    };
    row.ondblclick = () => { if (isDir) this.toggle(n); };
    return row;
  }

  toggle(n, open = !this.open.has(n)) {
    if (open) this.open.add(n); else this.open.delete(n);
    this.list();
  }

  /** Mark the blocks of an entry, and show it in the tree; of an inline file, those of its pair. */
  select(n, { toMap = true } = {}) {
    const { image } = this, node = image.node[n];
    this.selected = n;
    for (let up = node.parent; up >= 0; up = image.node[up].parent) this.open.add(up);
    this.list();
    const at = this.shown.findIndex(([one]) => one === n), tree = $("tree");
    if (at >= 0) {
      const top = at * ROW;
      if (top < tree.scrollTop || top + ROW > tree.scrollTop + tree.clientHeight) tree.scrollTop = top - tree.clientHeight / 2;
      tree.setAttribute("aria-activedescendant", `row${n}`);
    }
    this.rows();
    let blocks = this.markRuns((run) => image.runOwner[run] - 1 === n);
    if (!blocks.size && node.block >= 0) this.mark(blocks = new Set([node.block]));
    if (toMap && blocks.size && !blocks.has(this.cursor)) {
      this.cursor = Math.min(...[...blocks].slice(0, 10000));
      this.reveal(this.cursor);
      this.describe();
    }
  }

  treeEvents() {
    const tree = $("tree");
    tree.onscroll = () => this.rows();
    new ResizeObserver(() => this.rows()).observe(tree);
    $("find").oninput = () => { tree.scrollTop = 0; this.list(); };
    tree.onkeydown = (e) => {
      const { image } = this, at = this.shown.findIndex(([n]) => n === this.selected), [n] = this.shown[at] || [-1];
      const to = (place) => {
        const row = this.shown[Math.min(Math.max(place, 0), this.shown.length - 1)];
        if (row) this.select(row[0]);
      };
      const page = Math.floor(tree.clientHeight / ROW) - 1;
      const keys = {
        ArrowDown: () => to(at + 1), ArrowUp: () => to(at - 1), Home: () => to(0), End: () => to(this.shown.length - 1),
        PageDown: () => to(at + page), PageUp: () => to(at - page),
        ArrowRight: () => n >= 0 && (this.open.has(n) ? to(at + 1) : this.toggle(n, true)),
        ArrowLeft: () => n >= 0 && (this.open.has(n) ? this.toggle(n, false) : image.node[n].parent >= 0 && this.select(image.node[n].parent)),
        Enter: () => { this.canvas.focus(); if (this.cursor >= 0) this.reveal(this.cursor, 12); },
        Escape: () => { this.selected = -1; this.mark(null); this.rows(); },
      };
      if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
    };
  }

  /* -- events -- */

  controls() {
    const again = () => { this.legend(); this.paint(); };
    $("colour").onchange = again;
    $("theme").onchange = () => { this.look(); again(); };
    matchMedia("(prefers-color-scheme: dark)").onchange = () => { this.look(); again(); };
    $("order").onchange = () => { this.order(); this.paint(); this.fit(); if (this.cursor >= 0) this.reveal(this.cursor); };
    $("in").onclick = () => this.zoom(2);
    $("out").onclick = () => this.zoom(0.5);
    $("fit").onclick = () => this.fit();
    $("go").onsubmit = (e) => {
      e.preventDefault();
      const block = Number($("address").value.trim());
      const known = $("address").value.trim() !== "" && Number.isInteger(block) && block >= 0 && block < this.image.present;
      $("address").setCustomValidity(known ? "" : `There is no such block: the image has ${this.image.present}.`);
      if (known) { this.choose(block, { least: 16 }); this.canvas.focus(); } else $("address").reportValidity();
    };
    $("address").oninput = () => $("address").setCustomValidity("");
    if (this.images.length > 1) {
      $("which").hidden = false;
      $("image").append(...this.images.map((image, n) => element("option", { value: String(n) }, `${image.label}: ${image.title}`)));
      $("image").onchange = () => { this.show(this.images[Number($("image").value)]); this.fit(); };
      const option = $("colour").querySelector("[value=change]");
      option.hidden = option.disabled = false;
      $("colour").value = "change";
    }
  }

  pointer() {
    const { canvas } = this, held = new Map();
    let moved = 0;
    const place = (e) => { const box = canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
    canvas.onpointerdown = (e) => { canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, place(e)); moved = 0; };
    canvas.onpointermove = (e) => {
      const [x, y] = place(e), before = held.get(e.pointerId);
      if (!before) return this.hover(x, y);
      const others = [...held].filter(([id]) => id !== e.pointerId).map(([, at]) => at);
      if (others.length) {
        // two fingers: what is between them stays there
        const [ox, oy] = others[0], apart = (ax, ay) => Math.max(Math.hypot(ax - ox, ay - oy), 1);
        this.zoom(apart(x, y) / apart(...before), (x + ox) / 2, (y + oy) / 2);
      }
      moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
      if (moved > 4) {
        this.view.x += x - before[0];
        this.view.y += y - before[1];
        this.fitted = false;
        $("tip").hidden = true;
        this.draw();
      }
      held.set(e.pointerId, [x, y]);
    };
    canvas.onpointerup = (e) => {
      held.delete(e.pointerId);
      const block = this.blockAt(...place(e));
      if (moved <= 4 && block >= 0) this.choose(block);
      else if (moved <= 4) { this.cursor = -1; this.selected = -1; this.describe(); this.mark(null); this.rows(); }
    };
    canvas.onpointercancel = (e) => held.delete(e.pointerId);
    canvas.onpointerleave = () => { $("tip").hidden = true; };
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.002)), ...place(e));
    }, { passive: false });
    canvas.ondblclick = (e) => this.zoom(2, ...place(e));
    canvas.onkeydown = (e) => this.key(e);
  }

  hover(x, y) {
    const block = this.blockAt(x, y), tip = $("tip");
    tip.hidden = block < 0;
    if (block < 0) return;
    tip.textContent = this.facts(block).map(([name, value]) => `${name}: ${value}`).join("\n");
    const { clientWidth: width, clientHeight: height } = this.canvas;
    tip.style.left = `${x + 16 + tip.offsetWidth > width ? Math.max(0, x - 16 - tip.offsetWidth) : x + 16}px`;
    tip.style.top = `${y + 16 + tip.offsetHeight > height ? Math.max(0, y - 16 - tip.offsetHeight) : y + 16}px`;
  }

  key(e) {
    const { image, grid, cursor } = this, from = Math.max(cursor, 0);
    $("tip").hidden = true;
    if (e.ctrlKey || e.altKey || e.metaKey) return;
    const step = (dx, dy) => {
      if (cursor < 0) return this.choose(0);
      const [column, row] = grid.corner(cursor), x = column + dx, y = row + dy;
      if (x >= 0 && y >= 0 && x < grid.width && y < grid.height) this.choose(grid.block(x, y));
    };
    const next = () => {
      const marks = this.marked || new Set(Array.from({ length: image.present }, (_, b) => b)
        .filter((b) => image.change(b) || DAMAGE.has(image.class(b).id)));
      for (let i = 1; i <= image.present; i++) {
        const block = (cursor + i) % image.present;
        if (marks.has(block)) return this.choose(block, { mark: !this.marked });
      }
    };
    const keys = {
      ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
      "[": () => this.choose(from - 1), "]": () => this.choose(cursor + 1),
      Home: () => this.choose(0), End: () => this.choose(image.present - 1), n: next,
      "+": () => this.zoomToCursor(2), "=": () => this.zoomToCursor(2), "-": () => this.zoomToCursor(0.5), 0: () => this.fit(),
      Enter: () => { const owner = cursor >= 0 ? image.owner(cursor) : -1; if (owner >= 0) { this.select(owner); $("tree").focus(); } },
      Escape: () => { this.cursor = -1; this.selected = -1; this.describe(); this.mark(null); this.rows(); },
    };
    if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  }

  zoomToCursor(factor) {
    if (this.cursor < 0) return this.zoom(factor);
    const [x, y] = this.corner(this.cursor), half = this.view.scale / 2;
    this.zoom(factor, x + half, y + half);
    this.reveal(this.cursor);
  }
}

(async () => {
  const blobs = [...document.querySelectorAll("script.image")].map((blob) => blob.textContent.trim());
  const images = (await Promise.all(blobs.map(unpack))).map((bytes) => new Image(bytes));
  window.page = new Page(images);
  document.body.dataset.ready = "true";
})().catch((error) => {
  $("status").textContent = `The map cannot be shown: ${error.message}`;
  document.body.dataset.ready = "failed";
});
