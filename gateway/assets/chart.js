// Charts of figures over time: lines with axes, the values at a time under the pointer or chosen with the arrow keys, and
// outages marked. A chart is drawn for the width that it has, so that its texts keep their size.

import { element, having, svg } from "/assets/dom.js";
import { clock, clockMinute } from "/assets/words.js";

const HEIGHT = 168;
const MARGIN = { top: 8, right: 8, bottom: 22, left: 52 };
const Y_TICKS = 4;
// Distances of times on the axis, in seconds; the first that leaves enough room is taken.
const X_STEPS_S = [60, 180, 300, 600, 900, 1800, 3600, 7200, 14400, 21600];
const X_ROOM = 84;

// A chart with a title; `update(data)` draws it. The data:
//   from_s, to_s   the times of the axis, in seconds since 1970
//   times_s        when each step ended; step_s is its length
//   lines          [{ name, values }], with null for what is not known
//   format(value)  words for a value
//   least          the axis reaches at least to this value
//   outages        [{ from_s, to_s, name }]
//   begun_s        there is nothing from before
export function chart(title) {
  const legend = element("ul", "legend");
  const when = element("span", "quiet when");
  const drawing = having(svg("svg", { class: "chart", role: "img", tabindex: 0 }), { "aria-label": title });
  const figure = element("figure", "card", element("figcaption", "", element("h2", "", title), when), legend, drawing);
  const view = { title, legend, when, drawing, data: null, at: null };

  for (const kind of ["pointermove", "pointerdown"]) {
    drawing.addEventListener(kind, (event) => point(view, event.clientX - drawing.getBoundingClientRect().left));
  }
  drawing.addEventListener("pointerleave", () => choose(view, null));
  drawing.addEventListener("blur", () => choose(view, null));
  drawing.addEventListener("keydown", (event) => step(view, event));
  new ResizeObserver(() => draw(view)).observe(drawing);
  return {
    figure,
    update(data) {
      view.data = data;
      draw(view);
    },
  };
}

// --- drawing ---

function draw(view) {
  const { drawing, data } = view;
  const width = Math.round(drawing.clientWidth);
  if (!data || width === 0) {
    return;
  }
  const most = nice(Math.max(data.least ?? 0, ...data.lines.flatMap((line) => line.values.map((value) => value ?? 0))));
  const [left, right, bottom] = [MARGIN.left, width - MARGIN.right, HEIGHT - MARGIN.bottom];
  const x = (time_s) => left + ((time_s - data.from_s) / (data.to_s - data.from_s)) * (right - left);
  const y = (value) => bottom - (value / most) * (bottom - MARGIN.top);
  view.scale = { x, y, left, right, bottom };
  having(drawing, { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT });
  drawing.replaceChildren(
    ...before(data, view.scale),
    ...data.outages.map((outage) => band(outage, data, view.scale)),
    ...yAxis(most, data, view.scale),
    ...xAxis(data, view.scale),
    ...data.lines.map((line, index) => svg("path", { class: `line series-${index + 1}`, d: path(line.values, data, view.scale) })),
    svg("g", { class: "cursor" }),
  );
  choose(view, view.at);
}

function before({ begun_s, from_s }, { x, left, bottom }) {
  if (begun_s <= from_s) {
    return [];
  }
  return [svg("rect", { class: "nothing", x: left, y: MARGIN.top, width: Math.max(0, x(begun_s) - left), height: bottom - MARGIN.top })];
}

function band({ from_s, to_s, name }, data, { x, bottom }) {
  const from = x(Math.max(from_s, data.from_s));
  const made = svg("rect", {
    class: "outage",
    x: from,
    y: MARGIN.top,
    width: Math.max(2, x(Math.min(to_s, data.to_s)) - from),
    height: bottom - MARGIN.top,
  });
  made.append(svg("title", {}, `${name} was down`));
  return made;
}

function yAxis(most, { format }, { y, left, right }) {
  const ticks = Array.from({ length: Y_TICKS + 1 }, (_, index) => (most / Y_TICKS) * index);
  return ticks.flatMap((tick, index) => [
    svg("line", { class: index === 0 ? "axis" : "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    ...(index % 2 === 0 ? [svg("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, format(tick))] : []),
  ]);
}

function xAxis({ from_s, to_s }, { x, left, right, bottom }) {
  const room = ((right - left) / (to_s - from_s)) * 1;
  const every = X_STEPS_S.find((seconds) => seconds * room >= X_ROOM) ?? X_STEPS_S.at(-1);
  // Whole hours of the clock on the wall.
  const offset = new Date(to_s * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let time = Math.ceil((from_s - offset) / every) * every + offset; time <= to_s; time += every) {
    const at = x(time);
    if (at - left > 16 && right - at > 12) {
      ticks.push(svg("line", { class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }));
      ticks.push(svg("text", { class: "tick", x: at, y: bottom + 17, "text-anchor": "middle" }, clockMinute(time * 1000)));
    }
  }
  return ticks;
}

// The line of a series; it is interrupted where nothing is known and where steps are missing.
function path(values, { times_s, step_s }, { x, y }) {
  let [parts, isDown] = ["", false];
  values.forEach((value, index) => {
    const isGap = index > 0 && times_s[index] - times_s[index - 1] > 2.5 * step_s;
    if (value === null) {
      isDown = false;
      return;
    }
    parts += `${isDown && !isGap ? "L" : "M"}${x(times_s[index]).toFixed(1)} ${y(value).toFixed(1)}`;
    // A single point between gaps is a dot, by the round end of the line.
    parts += isDown && !isGap ? "" : "h0.01";
    isDown = true;
  });
  return parts;
}

// The next number of the kind 1, 2, 4, 5, 8 times a power of ten, so that the ticks are round.
function nice(value) {
  if (value <= 0) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].find((step) => step * power >= value) * power;
}

// --- values ---

function point(view, offset) {
  const { data, scale } = view;
  if (!data || data.times_s.length === 0) {
    return;
  }
  const time_s = data.from_s + ((offset - scale.left) / (scale.right - scale.left)) * (data.to_s - data.from_s);
  let nearest = 0;
  data.times_s.forEach((time, index) => {
    if (Math.abs(time - time_s) < Math.abs(data.times_s[nearest] - time_s)) {
      nearest = index;
    }
  });
  choose(view, nearest);
}

function step(view, event) {
  const last = (view.data?.times_s.length ?? 0) - 1;
  const to = { ArrowLeft: (view.at ?? last + 1) - 1, ArrowRight: (view.at ?? last) + 1, Home: 0, End: last }[event.key];
  if (to !== undefined && last >= 0) {
    event.preventDefault();
    choose(view, Math.min(Math.max(to, 0), last));
  }
}

// Shows the values at a step, or the latest ones.
function choose(view, at) {
  const { data, scale, legend, when, drawing } = view;
  if (!data || !scale) {
    return;
  }
  const last = data.times_s.length - 1;
  view.at = at === null || at > last ? null : at;
  const shown = view.at ?? last;
  const time_s = data.times_s[shown];
  const down = data.outages.filter(({ from_s, to_s }) => from_s < time_s && time_s <= to_s).map(({ name }) => `${name} down`);
  when.textContent = shown < 0 ? "no figures yet" : view.at === null ? "latest" : [clock(time_s * 1000), ...down].join(" · ");
  legend.replaceChildren(
    ...data.lines.map(({ name, values }, index) => {
      const value = values[shown] ?? null;
      const amount = element("strong", "", value === null ? "–" : data.format(value));
      return element("li", `series-${index + 1}`, element("span", "", name), amount);
    }),
  );
  const words = data.lines.map(({ name, values }) => `${name} ${values[shown] == null ? "unknown" : data.format(values[shown])}`);
  having(drawing, { "aria-label": `${view.title}, ${when.textContent}: ${words.join(", ")}` });
  const cursor = drawing.querySelector(".cursor");
  if (view.at === null) {
    cursor.replaceChildren();
    return;
  }
  const dots = data.lines.map(({ values }, index) => [values[shown], index]).filter(([value]) => value !== null && value !== undefined);
  cursor.replaceChildren(
    svg("line", { x1: scale.x(time_s), x2: scale.x(time_s), y1: MARGIN.top, y2: scale.bottom }),
    ...dots.map(([value, index]) => svg("circle", { class: `series-${index + 1}`, cx: scale.x(time_s), cy: scale.y(value), r: 3.5 })),
  );
}
