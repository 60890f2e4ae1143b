// The drawing of the way of a request (gateway, inventory, movies_db) and of an order (gateway, broker, billing,
// billing_db), with the state of each part and live rates on the arrows. It is drawn for the width that it has: from left
// to right, or from the top down on a phone.

import { element, having, svg } from "/assets/dom.js";
import { PARTS, stateOf } from "/assets/parts.js";
import { bytes, duration, number, rate, state, tone } from "/assets/words.js";

const NARROW = 680;
const NODE = { height: 92, widest: 250 };
const PAD = 14;
const LINE = 19;

// A drawing; `update(view)` draws what is known:
//   status     the answer of /api/status
//   services   entries of the catalogue by name, for versions; may be empty
//   rates      per second: requests, confirmed, stored, and by the names of services those of `services`; null for what
//              is not known
export function flow() {
  const drawing = svg("svg", { class: "flow", role: "img", "aria-label": "The way of requests and orders" });
  const words = element("p", "hidden");
  const root = element("div", "", drawing, words);
  let last = null;
  const redraw = () => last && draw(drawing, words, last);
  new ResizeObserver(redraw).observe(drawing);
  return {
    root,
    update(view) {
      last = view;
      redraw();
    },
  };
}

function draw(drawing, words, view) {
  const width = Math.round(drawing.clientWidth);
  if (width === 0) {
    return;
  }
  const others = Object.keys(view.status.services);
  const plan = width < NARROW ? downwards(width, others) : sideways(width, others);
  having(drawing, { viewBox: `0 0 ${width} ${plan.height}`, height: plan.height });
  const arrows = arrowsOf(view, others);
  const parts = Object.keys(plan.nodes).map((name) => describe(name, view));
  drawing.replaceChildren(
    svg("defs", {}, ...["idle", "busy", "bad"].map(head)),
    ...arrows.map((arrow) => drawArrow(arrow, plan)),
    ...parts.map((part) => drawNode(part, plan.nodes[part.name])),
  );
  const text = parts.map(({ label, now, lines }) => `${label}: ${[now, ...lines].join(", ")}.`).join(" ");
  if (words.textContent !== text) {
    words.textContent = text;
  }
}

// --- where everything is ---

// Each node: x, y, width. The ways go from the left to the right; the databases are in one column.
function sideways(width, others) {
  const gap = Math.max(92, Math.round(width * 0.095));
  const node = Math.min(NODE.widest, Math.floor((width - 3 * gap) / 4));
  const column = (index) => Math.round(index * ((width - node) / 3));
  const row = (index) => index * (NODE.height + 36);
  const rows = 2 + others.length;
  const nodes = {
    gateway: at(0, (row(0) + row(rows - 1)) / 2, node),
    inventory: at(column(1), row(0), node),
    postgresql: at(column(3), row(0), node),
    broker: at(column(1), row(rows - 1), node),
    billing: at(column(2), row(rows - 1), node),
    billing_db: at(column(3), row(rows - 1), node),
  };
  others.forEach((name, index) => {
    nodes[name] = at(column(1), row(index + 1), node);
  });
  return { nodes, height: row(rows - 1) + NODE.height + 2, isSideways: true };
}

// Requests on the left, orders on the right.
function downwards(width, others) {
  const gap = 12;
  const node = Math.floor((width - gap) / 2);
  const right = width - node;
  const row = (index) => index * (NODE.height + 40);
  const nodes = {
    gateway: at(0, 0, width),
    inventory: at(0, row(1), node),
    postgresql: at(0, row(2), node),
    broker: at(right, row(1), node),
    billing: at(right, row(2), node),
    billing_db: at(right, row(3), node),
  };
  others.forEach((name, index) => {
    nodes[name] = at(0, row(3 + index), node);
  });
  return { nodes, height: row(3 + Math.max(0, others.length - 1)) + NODE.height + 2, isSideways: false };
}

const at = (x, y, width) => ({ x, y: y + 1, width });

// --- parts ---

// What is written in a node.
function describe(name, { status, services, rates }) {
  const known = Object.hasOwn(PARTS, name);
  const part = known ? status[name] : status.services[name];
  const now = known ? stateOf(status, name) : part.state;
  const version = part.version ?? services[name]?.version;
  // Nobody tells how much the programs of others hold.
  const memory = part.memory_bytes ? bytes(part.memory_bytes) : now === "ok" ? `memory ${bytes(null)}` : null;
  const age = now === "unknown" ? null : `for ${duration(Date.now() / 1000 - part.since_s)}`;
  const more = detail(name, part, { status, rates });
  const lines = [[age, version && `v${version}`], [memory, more]].map((words) => words.filter(Boolean).join(" · ")).filter(Boolean);
  // The broker may be a program of others, with a name of its own.
  const product = part.product && part.product !== name ? ` (${part.product})` : "";
  return { name, label: (known ? PARTS[name].label : name) + product, now: state(now), tone: tone(now), lines };
}

// What else there is to say of a part.
function detail(name, part, { status: { outbox }, rates }) {
  if (name === "broker" && part.messages_waiting !== null) {
    return `${number(part.messages_waiting)} waiting`;
  }
  if (name === "billing" && part.instances > 1) {
    return `${part.instances} processes`;
  }
  if (name === "billing" && part.messages_held) {
    return `holds ${number(part.messages_held)}`;
  }
  if (name === "gateway" && outbox?.orders_waiting > 0) {
    return `outbox ${number(outbox.orders_waiting)}`;
  }
  if (name === "gateway" && rates.requests !== null) {
    return `${rate(rates.requests)} in`;
  }
  return null;
}

function drawNode({ name, label, now, tone: how, lines }, { x, y, width }) {
  const texts = lines.map((line, index) => svg("text", { class: "detail", x: x + PAD, y: y + 46 + (index + 1) * LINE - 4 }, line));
  return svg(
    "g",
    { class: `node ${how}`, "data-part": name },
    svg("rect", { x: x + 1, y, width: width - 2, height: NODE.height, rx: 8 }),
    svg("text", { class: "label", x: x + PAD, y: y + 23 }, label),
    svg("circle", { cx: x + PAD + 4, cy: y + 38, r: 4 }),
    svg("text", { class: "now", x: x + PAD + 14, y: y + 42 }, now),
    ...texts,
  );
}

// --- arrows ---

function arrowsOf({ status, rates }, others) {
  const bad = (name) => tone(Object.hasOwn(PARTS, name) ? stateOf(status, name) : status.services[name].state) === "bad";
  const arrow = (from, to, perSecond, what) => ({ from, to, isBroken: bad(to) || bad(from), perSecond, what });
  return [
    ...["inventory", ...others].map((name) => arrow("gateway", name, rates.services[name] ?? null, "requests")),
    arrow("inventory", "postgresql", rates.services.inventory ?? null, "requests"),
    arrow("gateway", "broker", rates.confirmed, "orders"),
    arrow("broker", "billing", rates.stored, "orders"),
    arrow("billing", "billing_db", rates.stored, "orders"),
  ];
}

function head(name) {
  const triangle = svg("path", { d: "M0 0L9 4.5L0 9z", class: `head ${name}` });
  const size = { markerWidth: 9, markerHeight: 9, refX: 8, refY: 4.5, orient: "auto", markerUnits: "userSpaceOnUse" };
  return svg("marker", { id: `head-${name}`, ...size }, triangle);
}

function drawArrow({ from, to, isBroken, perSecond, what }, { nodes, isSideways }) {
  const [a, b] = [nodes[from], nodes[to]];
  const how = isBroken ? "bad" : perSecond > 0 ? "busy" : "idle";
  const label = perSecond === null || isBroken ? "" : rate(perSecond);
  const made = svg("g", { class: `arrow ${how}`, "data-way": `${from} ${to}` });
  const line = (d) => svg("path", { d, "marker-end": `url(#head-${how})` });
  const text = (x, y, words, anchor, name) => svg("text", { x, y, "text-anchor": anchor, class: name }, words);
  if (isSideways) {
    const [y1, y2] = [a.y + NODE.height / 2, b.y + NODE.height / 2];
    const [x1, x2] = [a.x + a.width + 2, b.x - 3];
    const bend = Math.sign(y2 - y1) * 26;
    made.append(line(bend === 0 ? `M${x1} ${y1}H${x2}` : `M${x1} ${y1}q14 0 14 ${bend}V${y2 - bend}q0 ${bend} 14 ${bend}H${x2}`));
    const center = bend === 0 ? (x1 + x2) / 2 : (x1 + 24 + x2) / 2;
    made.append(text(center, y2 - 9, label, "middle", "rate"), text(center, y2 + 18, label && what, "middle", "what"));
  } else {
    const x = b.x + b.width / 2;
    const [y1, y2] = [a.y + NODE.height + 2, b.y - 3];
    made.append(line(`M${x} ${y1}V${y2}`), text(x + 10, (y1 + y2) / 2 + 5, label, "start", "rate"));
  }
  return made;
}
