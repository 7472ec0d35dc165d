// Panels of an explorer as SVG, as wide as there is room; words and axes take the colour of the text around them.
const COLOURS = { main: "#0072B2", second: "#D55E00", third: "#E69F00", text: "currentColor" }; // as in plots.py: head, tail, mid
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// Words with numbers in their {places}, as Python's str.format has them: {count} or {p:.2f}.
const filled = (template, numbers) =>
  template
    .replace(/{(\w+)(?::\.(\d)f)?}/g, (_, key, digits) => (digits ? numbers[key].toFixed(digits) : numbers[key]))
    .replace(/(?<![\w#])-(?=\d)/g, "−");

const ticks = (low, high, most) => {
  const least = (high - low) / most, power = 10 ** Math.floor(Math.log10(least));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= least * 0.999);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) values.push(Number((k * step).toPrecision(6)));
  return values;
};

const ink = (mark) => (mark.colour ? `stroke="${COLOURS[mark.colour]}"` : 'stroke="currentColor" stroke-opacity="0.5"');
const dashed = (mark) => (mark.dash ? ' stroke-dasharray="5 4"' : "");

// What can be drawn. A mark has one of these keys, maybe a colour (grey without), a dash, and a name for the legend.
const MARKS = {
  line: (m, x, y) =>
    `<polyline fill="none" stroke-width="2" ${ink(m)}${dashed(m)} points="${m.line[0].map((v, k) => `${x(v)},${y(m.line[1][k])}`).join(" ")}"/>`,
  bars: (m, x, y) => {
    const [edges, heights] = m.bars, base = y(0);
    const top = heights.map((h, k) => `L${x(edges[k])},${y(h)}L${x(edges[k + 1])},${y(h)}`).join("");
    const fill = m.open ? "none" : m.colour ? COLOURS[m.colour] : "currentColor";
    return `<path fill="${fill}" fill-opacity="0.3" stroke-width="1.5" ${ink(m)} d="M${x(edges[0])},${base}${top}L${x(edges[edges.length - 1])},${base}"/>`;
  },
  dots: (m, x, y) =>
    m.dots[0].map((v, k) => `<circle cx="${x(v)}" cy="${y(m.dots[1][k])}" r="${m.size ?? 3}" fill="${COLOURS[m.colour]}" fill-opacity="${m.size ? 1 : 0.6}"/>`).join(""),
  band: (m, x, y, box) =>
    `<rect x="${x(m.band[0])}" y="${box.top}" width="${x(m.band[1]) - x(m.band[0])}" height="${box.bottom - box.top}" fill="currentColor" fill-opacity="0.12"/>`,
  level: (m, x, y, box) => `<path d="M${box.left},${y(m.level)}H${box.right}" ${ink(m)}${dashed(m)}/>`,
  upright: (m, x, y, box) => `<path d="M${x(m.upright)},${box.top}V${box.bottom}" ${ink(m)}${dashed(m)}/>`,
};
const kind = (mark) => Object.keys(MARKS).find((key) => key in mark);

// `plot` is {x: [low, high], y: [low, high], xLabel, yLabel, marks}, maybe square, with a title above and a note below.
const drawPanel = (plot, width) => {
  const height = plot.square ? Math.min(width - 10, 380) : Math.round(Math.min(260, Math.max(190, width * 0.6)));
  const box = { left: 50, right: width - 12, top: 10, bottom: height - 42 };
  const place = (low, high, from, to) => (v) => Math.round(10 * (from + ((v - low) / (high - low)) * (to - from))) / 10;
  const x = place(...plot.x, box.left, box.right), y = place(...plot.y, box.bottom, box.top);
  const drawn = plot.marks.map((mark) => MARKS[kind(mark)](mark, x, y, box)).join("");
  const below = ticks(...plot.x, Math.max(3, width / 75)).map((t) =>
    `<path d="M${x(t)},${box.bottom}v4"/><text x="${x(t)}" y="${box.bottom + 17}" text-anchor="middle">${String(t).replace("-", "−")}</text>`);
  const beside = ticks(...plot.y, 5).map((t) =>
    `<path d="M${box.left},${y(t)}h-4"/><text x="${box.left - 7}" y="${y(t) + 4}" text-anchor="end">${String(t).replace("-", "−")}</text>`);
  const middle = (box.top + box.bottom) / 2;
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true" font-size="12" fill="currentColor">
<g>${drawn}</g><g stroke="currentColor" fill="none"><path d="M${box.left},${box.top}V${box.bottom}H${box.right}"/></g>
<g class="explorer-ticks">${below.join("")}${beside.join("")}</g>
<text x="${(box.left + box.right) / 2}" y="${height - 6}" text-anchor="middle">${escaped(plot.xLabel)}</text>
<text transform="translate(12 ${middle}) rotate(-90)" text-anchor="middle">${escaped(plot.yLabel)}</text></svg>`;
};

const key = (mark) => {
  const colour = mark.colour ? COLOURS[mark.colour] : "currentColor";
  const shapes = {
    band: '<rect y="2" width="18" height="8" fill="currentColor" fill-opacity="0.2"/>',
    dots: `<circle cx="9" cy="6" r="4" fill="${colour}"/>`,
  };
  const line = `<path d="M0,6H18" stroke="${colour}" stroke-width="2" stroke-opacity="${mark.colour ? 1 : 0.5}"${dashed(mark)}/>`;
  return `<span><svg width="18" height="12" aria-hidden="true">${shapes[kind(mark)] ?? line}</svg> ${escaped(mark.name)}</span>`;
};

// Draw the panels side by side where there is room for two, else one under the other, the legend above each.
const drawPanels = (picture, plots) => {
  const panel = ({ title = "", note = "" }) =>
    `<div class="explorer-panel"><p class="explorer-title">${escaped(title)}</p><p class="explorer-legend"></p><div></div><p class="explorer-note">${note}</p></div>`;
  picture.innerHTML = plots.map(panel).join("");
  plots.forEach((plot, k) => {
    const [, legend, place] = picture.children[k].children;
    legend.innerHTML = plot.marks.filter((mark) => mark.name).map(key).join("");
    place.innerHTML = drawPanel(plot, Math.round(place.clientWidth) || 330);
  });
};
