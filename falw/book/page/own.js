// "Your own model": reads a CSV that a reader drops, and shows what falw/book/own_model.py finds in it. The file is read
// in the page; nothing is sent anywhere.
const COLUMNS = ["class", "p", "part"], RETRAIN = "retrain", PARTS = ["forget", "unseen"];
const LARGEST = 20e6; // bytes; a row has some 25

const unquoted = (field) => field.trim().replace(/^"(.*)"$/, "$1").replace(/""/g, '"').trim();
const fieldsOf = (line, mark) => {
  const fields = [""];
  let quoted = false;
  for (const c of line) {
    if (c === '"') quoted = !quoted;
    if (c === mark && !quoted) fields.push("");
    else fields[fields.length - 1] += c;
  }
  return fields.map(unquoted);
};

// Rows {class, p, part, retrain}, or an Error of one line that names the row and the way out.
const parse = (text) => {
  const lines = text.replace(/^\uFEFF/, "").split(/\r\n|\n|\r/);
  const start = lines.findIndex((line) => line.trim());
  if (start < 0) throw Error("the file is empty: give a first line 'class,p,part' and then a line for each image");
  const often = (c) => lines[start].split(c).length;
  const mark = [",", ";", "\t"].sort((a, b) => often(b) - often(a))[0];
  const names = fieldsOf(lines[start], mark).map((name) => name.toLowerCase());
  const place = columnsOf(names, lines[start]);
  const rows = [];
  lines.forEach((line, k) => {
    if (k <= start || !line.trim()) return;
    const fields = fieldsOf(line, mark), row = `row ${k + 1}`;
    if (fields.length !== names.length)
      throw Error(`${row} has ${fields.length} fields, and the first line ${names.length}: give one for each column`);
    rows.push(checked(row, (name) => fields[place[name]]));
  });
  PARTS.forEach((part) => {
    if (!rows.some((row) => row.part === part))
      throw Error(`no row has '${part}' as its part: give forgotten images, and unseen ones to compare them with`);
  });
  return rows;
};

const columnsOf = (names, line) => {
  const known = [...COLUMNS, RETRAIN];
  const twice = known.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (twice) throw Error(`column '${twice}' stands twice in the first line: leave one of them out`);
  const lacking = COLUMNS.find((name) => !names.includes(name));
  if (lacking)
    throw Error(`no column '${lacking}' in the first line '${line.trim().slice(0, 60)}': it names ${COLUMNS.join(", ")}, and ${RETRAIN} if you have it`);
  return Object.fromEntries(known.filter((name) => names.includes(name)).map((name) => [name, names.indexOf(name)]));
};

const checked = (row, of) => {
  const number = (name, way) => {
    const text = of(name), value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
    if (!(value >= 0 && value <= 1)) throw Error(`${row}: ${name} is '${text}'; give a probability from 0 to 1, with a point${way}`);
    return value;
  };
  const part = of("part").toLowerCase();
  if (!PARTS.includes(part)) throw Error(`${row}: part is '${of("part")}'; write ${PARTS.join(" or ")}`);
  if (!of("class")) throw Error(`${row}: class is empty; give its name or number`);
  const found = { class: of("class"), p: number("p", ""), part };
  if (of(RETRAIN) !== undefined && part === "forget")
    found.retrain = number(RETRAIN, ", or leave the column out");
  return found;
};

// As `own_model.weighted`: of each forgotten row z, w, its group and its deviation.
const weighted = (rows, tau) => {
  const names = [...new Set(rows.map((row) => row.class))];
  names.sort(names.every((name) => Number.isFinite(Number(name))) ? (a, b) => a - b : undefined);
  const of = (part) => names.map((name) => rows.filter((row) => row.part === part && row.class === name).map((row) => row.p));
  const forget = rows.filter((row) => row.part === "forget"), counts = of("forget").map((p) => p.length);
  const stats = of("unseen").map((p) => formulas.classStats(p)), group = {};
  Object.entries(formulas.groups(counts)).forEach(([name, members]) => members.forEach((c) => { group[c] = name; }));
  const images = forget.map((row) => {
    const c = names.indexOf(row.class), balance = formulas.balanceFactor(counts[c], forget.length, names.length, tau);
    const z = stats[c].count ? formulas.zScore(row.p, stats[c].mean, stats[c].std) : 0;
    return { ...row, z, w: formulas.forgettingWeight(z, balance), group: group[c], deviation: row.p - row.retrain };
  });
  const few = names.filter((_, c) => counts[c] && stats[c].count < 2);
  return { images, names, few, unseen: rows.length - forget.length };
};

// As `own_model.group_rows`: a row of the table for each group and for all.
const byGroup = (images) =>
  ["head", "mid", "tail", "all"].map((group) => {
    const mine = images.filter((image) => group === "all" || image.group === group);
    const mean = (value) => sum(mine.map(value)) / mine.length;
    const below = (100 * mine.filter((image) => image.w < 1).length) / mine.length;
    const found = { group, images: mine.length, p: mean((i) => i.p), z: mean((i) => i.z), w: mean((i) => i.w), below };
    const deviations = mine.map((image) => image.deviation);
    return { ...found, deviation: mean((i) => i.deviation), ...formulas.deviationShares(deviations) };
  });

const HEADS = {
  group: ["group"], images: ["images"], p: ["mean p", 2], z: ["mean z", 2], w: ["mean w", 2], below: ["w below 1, %", 0],
  deviation: ["mean p − Retrain's", 2], under: ["under %", 0], faithful: ["faithful %", 0], over: ["over %", 0],
};
const table = (images) => {
  const keys = Object.keys(HEADS).slice(0, images[0].retrain === undefined ? 6 : 10);
  const text = (value, digits) => (Number.isNaN(value) ? "–" : digits === undefined ? value : value.toFixed(digits).replace("-", "−"));
  const cells = (row) => keys.map((key) => `<td>${text(row[key], HEADS[key][1])}</td>`).join("");
  const body = byGroup(images).map((row) => `<tr>${cells(row)}</tr>`).join("");
  return `<table><thead><tr>${keys.map((key) => `<th scope="col">${HEADS[key][0]}</th>`).join("")}</tr></thead><tbody>${body}</tbody></table>`;
};

const shares = (values, low, high, bins) => {
  const counts = Array(bins).fill(0), width = (high - low) / bins;
  values.forEach((v) => { counts[Math.max(0, Math.min(bins - 1, Math.floor((v - low) / width)))] += 100 / values.length; });
  return [Array.from({ length: bins + 1 }, (_, k) => low + k * width), counts];
};

const plotsOf = (images) => {
  const colours = { head: "main", mid: "third", tail: "second" };
  const dots = Object.entries(colours).map(([name, colour]) => {
    const mine = images.filter((image) => image.group === name);
    return { dots: [mine.map((i) => i.p), mine.map((i) => i.w)], colour, name };
  });
  const weight = { x: [-0.02, 1.02], y: [0, 2.05], xLabel: "p of the true class", yLabel: "weight w", marks: [{ level: 1 }, ...dots] };
  const known = images[0].retrain !== undefined;
  const bars = known ? shares(images.map((i) => i.deviation), -1, 1, 20) : shares(images.map((i) => i.z), -4, 4, 20);
  const about = known ? { band: [-0.1, 0.1], name: "within 0.1: faithful" } : { upright: 0 };
  const xLabel = known ? "over  ←  p − p of Retrain  →  under" : "z-score";
  const other = { x: known ? [-1, 1] : [-4, 4], y: [0, 1.1 * Math.max(...bars[1])], xLabel, yLabel: "images, %", marks: [about, { bars, colour: "main" }] };
  return [weight, other];
};

const ownModel = (root) => {
  const [file, tau] = root.querySelectorAll("input"), said = root.querySelector(".explorer-formula");
  const picture = root.querySelector(".explorer-picture"), place = root.querySelector(".explorer-table");
  let rows = parse(JSON.parse(root.querySelector('script[type="application/json"]').textContent)), from = "the example";
  const show = () => {
    const { images, names, few, unseen } = weighted(rows, Number(tau.value));
    const text = Number(tau.value).toFixed(2), lack = few.length ? ` Fewer than two unseen images: class ${few.slice(0, 5).join(", ")}.` : "";
    tau.setAttribute("aria-valuetext", text);
    tau.nextElementSibling.textContent = text;
    said.textContent = `${from}: ${images.length} forgotten and ${unseen} unseen images of ${names.length} classes.${lack}`;
    said.classList.remove("explorer-error");
    place.innerHTML = table(images);
    const all = byGroup(images)[3];
    picture.setAttribute("aria-label", `Weights of ${images.length} forgotten images over p, mean ${all.w.toFixed(2)}, and a histogram of their ${all.deviation >= -1 ? "deviations from Retrain" : "z-scores"}.`);
    drawPanels(picture, plotsOf(images));
  };
  const read = async (given) => {
    if (!given) return;
    try {
      if (given.size > LARGEST) throw Error(`the file has ${(given.size / 1e6).toFixed(0)} MB: give at most ${LARGEST / 1e6}, a row for each image`);
      rows = parse(await given.text());
      from = given.name;
      show();
    } catch (error) {
      said.textContent = `${given.name} is not shown: ${error.message}.`;
      said.classList.add("explorer-error");
    }
  };
  root.classList.add("alive");
  file.addEventListener("change", () => read(file.files[0]));
  tau.addEventListener("input", show);
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    read(event.dataTransfer.files[0]);
  });
  let width = 0;
  new ResizeObserver(() => {
    if (root.clientWidth !== width) show();
    width = root.clientWidth;
  }).observe(root);
  show();
};
