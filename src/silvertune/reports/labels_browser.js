"use strict";
// The script of labels_browser.html. Every text of the data goes into the page as text, never as HTML.

const ROW = 46; // pixels: the height of a row of the list
const SORTS = {
  "": "as in the data",
  confident: "most confident label first",
  doubtful: "least confident label first",
  predicted: "surest prediction first",
  group: "by group",
};
const VOTES = { "": "any vote", none: "a vote without a label", differs: "a vote unlike the label", wrong: "a wrong vote" };
const KEYS = ["show", "label", "gold", "predicted", "annotator", "view", "vote", "group", "fold", "rater", "other_rater",
  "text", "sort", "item"];

let data; // what the page holds
let state = {}; // what is chosen: a text for each of KEYS
let chosen = []; // the items that match, in their order
let selected = 0; // a position in `chosen`
const ui = {};

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) node.append(child); // text, or a node
  return node;
}

const percent = (value) => (typeof value === "number" ? value.toFixed(2) : value === null || value === undefined ? "" : String(value));
const raterOf = (vote) => (vote[2] === data.whole_item ? vote[1] : `${vote[1]}:${vote[2]}`);
const labelOf = (item) => (item.decisions.length ? item.decisions[0].label : null);
const predictionOf = (item) => (item.predictions.length ? item.predictions[0] : null);
const confidenceOf = (item) => (item.decisions.length ? item.decisions[0].confidence : null);
const votesOf = (item) => item.votes.filter((vote) => Array.isArray(vote));
const sureness = (item) => (item.predictions.length && item.predictions[0][2] ? Math.max(...item.predictions[0][2]) : -1);

function words(item) {
  if (item.words === undefined) {
    const parts = [item.id, item.group || ""];
    for (const [, blocks] of item.views) for (const block of blocks) parts.push(typeof block === "string" ? block : block.map((row) => row.join(" ")).join(" "));
    item.words = parts.join(" ").toLowerCase();
  }
  return item.words;
}

// ------------------------------------------------------------------------------------------ which items are shown

function hasVote(item) {
  if (!state.annotator && !state.view && !state.vote) return true;
  const label = labelOf(item) || (predictionOf(item) || [])[1];
  return votesOf(item).some((vote) =>
    (!state.annotator || vote[1] === state.annotator) &&
    (!state.view || vote[2] === state.view) &&
    (!state.vote ||
      (state.vote === "none" ? vote[4] === null
        : state.vote === "differs" ? vote[4] !== null && vote[4] !== label
          : state.vote === "wrong" ? vote[4] !== null && item.gold !== null && vote[4] !== item.gold
            : vote[4] === state.vote.replace(/^is /, ""))));
}

function errsWithOther(item) {
  if (!state.rater) return true;
  const label = (rater) => { const vote = votesOf(item).find((one) => raterOf(one) === rater); return vote ? vote[4] : null; };
  const one = label(state.rater), other = label(state.other_rater);
  return one !== null && one === other && item.gold !== null && one !== item.gold;
}

function matches(item) {
  return (!state.show || item.marks.includes(state.show)) &&
    (!state.label || item.decisions.some((row) => row.label === state.label || row.train_label === state.label)) &&
    (!state.gold || item.gold === state.gold) &&
    (!state.predicted || item.predictions.some((row) => row[1] === state.predicted)) &&
    (!state.group || item.group === state.group) &&
    (!state.fold || item.predictions.some((row) => String(row[0]) === state.fold)) &&
    hasVote(item) && errsWithOther(item) &&
    (!state.text || state.text.toLowerCase().split(/\s+/).every((word) => words(item).includes(word)));
}

const ORDERS = {
  confident: (a, b) => (confidenceOf(b) ?? -1) - (confidenceOf(a) ?? -1),
  doubtful: (a, b) => (confidenceOf(a) ?? 2) - (confidenceOf(b) ?? 2),
  predicted: (a, b) => sureness(b) - sureness(a),
  group: (a, b) => (String(a.group) < String(b.group) ? -1 : a.group === b.group ? 0 : 1),
};

function choose() {
  const before = chosen[selected];
  chosen = data.items.filter(matches);
  if (ORDERS[state.sort]) chosen.sort(ORDERS[state.sort]);
  const wanted = state.item ? chosen.findIndex((item) => item.id === state.item) : chosen.indexOf(before);
  selected = Math.max(wanted, 0);
  showControls();
  ui.spacer.style.height = `${chosen.length * ROW}px`;
  ui.list.scrollTop = Math.max(0, selected * ROW - ui.list.clientHeight / 3);
  showList();
  showItem();
}

function set(changes) {
  for (const [key, value] of Object.entries(changes)) state[key] = value;
  remember();
  choose();
}

function remember() {
  const used = KEYS.filter((key) => state[key] || (key === "sort" && SORT_OF[state.show])).map((key) => [key, state[key]]);
  try {
    history.replaceState(null, "", `#${new URLSearchParams(used)}`);
  } catch { /* inside another page, which has no address of its own */ }
}

function recall() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = Object.fromEntries(KEYS.map((key) => [key, given.get(key) || ""]));
  if (!ORDERS[state.sort]) state.sort = "";
  if (!data.shows.some(([name]) => name === state.show)) state.show = "";
  if (!given.has("sort")) state.sort = SORT_OF[state.show] || "";
  choose();
}

function select(position) {
  if (!chosen.length) return;
  selected = Math.min(Math.max(position, 0), chosen.length - 1);
  state.item = chosen[selected].id;
  remember();
  const top = selected * ROW, bottom = top + ROW - ui.list.clientHeight;
  if (ui.list.scrollTop > top) ui.list.scrollTop = top;
  if (ui.list.scrollTop < bottom) ui.list.scrollTop = bottom;
  showList();
  showItem();
}

// --------------------------------------------------------------------------------------------------- what is drawn

function badges(item) {
  const parts = [];
  const add = (text, kind, title) => parts.push(el("span", { class: `badge ${kind}`, title }, text));
  if (item.marks.includes("dropped")) add("dropped", "dropped", "the filter drops its label");
  if (item.marks.includes("doubted")) add("doubted", "doubted", "kept, but doubted");
  if (item.marks.includes("wrong")) add("wrong", "wrong", "the label differs from gold");
  if (item.marks.includes("prediction_wrong")) add("prediction wrong", "wrong", "the predicted class differs from gold");
  if (item.marks.includes("from_fallback")) add("fallback", "other", "the fallback gave its label");
  if (item.marks.includes("no_label")) add("no label", "other", "the votes came to no label");
  return parts;
}

function firstWords(item) {
  const first = item.views.length ? item.views[item.views.length - 1][1][0] : "";
  const text = first === undefined ? "" : typeof first === "string" ? first : first.slice(0, 8).flat().filter(Boolean).join(" · ");
  return text.slice(0, 140);
}

function showList() {
  const start = Math.max(0, Math.floor(ui.list.scrollTop / ROW) - 5);
  const end = Math.min(chosen.length, start + Math.ceil(ui.list.clientHeight / ROW) + 10);
  ui.rows.replaceChildren(...chosen.slice(start, end).map((item, k) => {
    const position = start + k, label = labelOf(item), prediction = predictionOf(item);
    const shown = label !== null ? `${label} ${percent(confidenceOf(item))}` : prediction ? `predicted ${prediction[1]}` : "";
    return el("div", {
      class: "row", role: "option", "aria-selected": String(position === selected), id: `row${position}`,
      "aria-posinset": position + 1, "aria-setsize": chosen.length,
      style: `top:${position * ROW}px`, onclick: () => select(position),
    },
    el("div", { class: "line" }, el("bdi", { class: "name" }, item.id), badges(item)),
    el("div", { class: "line small" }, el("b", {}, shown), " ", el("bdi", { class: "start" }, firstWords(item))));
  }));
  ui.list.setAttribute("aria-activedescendant", `row${selected}`);
}

function table(head, rows, kind) {
  return el("div", { class: "wide" }, el("table", { class: kind },
    head ? el("thead", {}, el("tr", {}, head.map((name) => el("th", {}, name)))) : null,
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", { dir: kind === "cells" ? "auto" : null }, cell ?? "")))))));
}

function cellsOf(rows) {
  const width = Math.max(...rows.map((row) => row.length));
  const isEven = rows.every((row) => row.length === width);
  const note = isEven ? null : el("p", { class: "note" }, "Rows of this text differ in their number of cells (empty cells may be left out), so columns may not line up.");
  return [note, table(null, rows.map((row) => [...row, ...Array(width - row.length).fill("")]), "cells")];
}

function viewOf([name, blocks, isCut]) {
  return el("details", { open: true, class: "view" }, el("summary", {}, "view ", el("b", {}, name)),
    blocks.map((block) => (typeof block === "string" ? el("p", { class: "text", dir: "auto" }, block) : cellsOf(block))),
    isCut ? el("p", { class: "note" }, "… cut here: the view is longer than this page shows.") : null);
}

function labelled(label, gold) {
  if (label === null) return el("i", {}, "none");
  const isWrong = gold !== null && gold !== undefined && label !== gold;
  return el("bdi", { class: isWrong ? "is-wrong" : "", title: isWrong ? "differs from gold" : null }, label, isWrong ? " ✗" : "");
}

function distribution(probs) {
  return probs ? data.classes.map((name, k) => [probs[k], name]).sort((a, b) => b[0] - a[0]).slice(0, 4).map(([value, name]) => `${name} ${percent(value)}`).join(", ") : "";
}

function decisionText(row) {
  if (row.label === null) return "no label";
  return row.keep ? "kept" : `dropped${row.reason ? ` by ${row.reason}` : ""}`;
}

function votesTable(item) {
  const votes = votesOf(item), more = item.votes.length - votes.length ? item.votes[item.votes.length - 1] : 0;
  if (!votes.length) return el("p", {}, "none");
  const columns = [["annotator", (vote) => el("bdi", {}, vote[1])], ["view", (vote) => vote[2]], ["label", (vote) => labelled(vote[4], item.gold)],
    ["confidence", (vote) => percent(vote[5])], ["probabilities", (vote) => distribution(vote[7])], ["status", (vote) => vote[6]],
    ["stage", (vote) => vote[0]]];
  if (votes.some((vote) => vote[3])) columns.splice(2, 0, ["repeat", (vote) => vote[3]]);
  return [el("div", { class: "votes" }, table(columns.map(([name]) => name), votes.map((vote) => columns.map(([, cell]) => cell(vote))))),
    more ? el("p", { class: "note" }, `and ${more} more (votes.parquet has all)`) : null];
}

function showItem() {
  const item = chosen[selected];
  ui.item.replaceChildren();
  ui.position.textContent = chosen.length ? `${selected + 1} of ${chosen.length}` : "no item matches";
  if (!item) return;
  const fact = (name, ...value) => el("div", { class: "fact" }, el("span", {}, name), ...value);
  const label = labelOf(item), prediction = predictionOf(item);
  const decided = [...new Set(item.decisions.map(decisionText))].join("; ") || "in no training pool";
  ui.item.append(
    el("h2", {}, el("bdi", {}, item.id), " ", badges(item)),
    el("div", { class: "facts" },
      item.group === null ? null : fact("group", el("button", { class: "link", title: "only this group", onclick: () => set({ group: item.group }) }, el("bdi", {}, item.group))),
      fact("label", item.decisions.length ? labelled(label, item.gold) : el("i", {}, "none"), ` ${percent(confidenceOf(item))}`),
      fact("decision", decided),
      item.gold === null ? null : fact("gold", item.gold),
      prediction ? fact("predicted", labelled(prediction[1], item.gold), ` ${prediction[2] ? percent(Math.max(...prediction[2])) : ""}`) : null),
    el("h3", {}, "Votes"), el("div", {}, votesTable(item)),
    el("div", { class: "views" }, item.views.length ? item.views.map(viewOf) : el("p", { class: "note" }, "This page shows no view of the item.")));
  if (item.decisions.length) {
    const scores = Object.keys(item.decisions[0].scores);
    ui.item.append(el("h3", {}, "Decision in each training pool"), table(
      ["fold", "label", "confidence", "decision", ...scores, "trained on", "from", "weight"],
      item.decisions.map((row) => [row.folds.join(", "), labelled(row.label, item.gold), percent(row.confidence), decisionText(row),
        ...scores.map((name) => percent(row.scores[name])), labelled(row.train_label, item.gold), row.source, percent(row.weight)]), "decisions"));
  }
  if (item.predictions.length) {
    ui.item.append(el("h3", {}, "Predictions"), table(["fold", "predicted", "probabilities"],
      item.predictions.map((row) => [row[0], labelled(row[1], item.gold), distribution(row[2])]), "predictions"));
  }
  ui.section.scrollTop = 0;
}

function showControls() {
  for (const button of ui.shows.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.value === state.show));
  for (const [key, field] of Object.entries(ui.fields)) {
    if (field.value === state[key]) continue;
    field.value = state[key];
    if (field.tagName === "SELECT" && field.value !== state[key]) { // a value that no item of the page has
      field.append(el("option", { value: state[key] }, state[key]));
      field.value = state[key];
    }
  }
  const pair = state.rater ? `Only items that ${state.rater} and ${state.other_rater} have wrong in the same way` : "";
  ui.pair.replaceChildren(...(pair ? [pair, " ", el("button", { onclick: () => set({ rater: "", other_rater: "" }) }, "remove")] : []));
  const isChosen = KEYS.some((key) => key !== "item" && key !== "sort" && state[key]);
  ui.count.textContent = isChosen ? `${chosen.length} of ${data.items.length} items` : `${data.items.length} items`;
  ui.clear.hidden = !isChosen;
}

// --------------------------------------------------------------------------------------------------------- the page

function counted(values) {
  const counts = new Map();
  for (const value of values) if (value !== null && value !== undefined) counts.set(value, (counts.get(value) || 0) + 1);
  return counts;
}

function field(key, title, options) {
  if (options && options.length < 2) return null;
  const node = options
    ? el("select", { onchange: (event) => set({ [key]: event.target.value, item: "" }) }, options.map(([value, name]) => el("option", { value }, name)))
    : el("input", { type: "search", list: key === "group" ? "groups" : null, oninput: later((event) => set({ [key]: event.target.value, item: "" })) });
  ui.fields[key] = node;
  return el("label", {}, title, node);
}

function later(action) {
  let timer;
  return (event) => { clearTimeout(timer); timer = setTimeout(() => action(event), 150); };
}

function options(counts, any) {
  return [["", any], ...[...counts].map(([value, count]) => [value, `${value} (${count})`])];
}

const SORT_OF = { wrong_and_confident: "confident", wrong: "confident", trained_on_wrong: "confident", doubted: "doubtful", prediction_wrong: "predicted" };

function build() {
  const items = data.items;
  const page = document.getElementById("page");
  const of = (count, total) => (total > count ? `${count} of ${total.toLocaleString("en")}` : String(count));
  const number = (show) => items.filter((item) => item.marks.includes(show)).length;
  ui.fields = {};
  ui.shows = el("div", { class: "shows", role: "group", "aria-label": "show" },
    [["", "All", "Every item of the page."], ...data.shows].map(([value, title, meaning, total]) => el("button", {
      value, title: meaning, onclick: () => set({ show: value, sort: SORT_OF[value] || "", item: "" }),
    }, title, " ", el("small", {}, of(value ? number(value) : items.length, total)))));
  const votes = items.flatMap(votesOf);
  const groups = counted(items.map((item) => item.group));
  const classes = (of) => options(counted(items.flatMap(of)), "any");
  ui.count = el("span", { class: "count", "aria-live": "polite" });
  ui.clear = el("button", { onclick: () => set(Object.fromEntries(KEYS.map((key) => [key, ""]))) }, "show all");
  const controls = el("div", { class: "controls" },
    field("text", "search"),
    field("label", "label", classes((item) => [...new Set(item.decisions.map((row) => row.label))])),
    field("gold", "gold", classes((item) => [item.gold])),
    field("predicted", "predicted", classes((item) => [...new Set(item.predictions.map((row) => row[1]))])),
    field("annotator", "annotator", options(counted(votes.map((vote) => vote[1])), "any")),
    field("view", "view voted on", options(counted(votes.map((vote) => vote[2])), "any")),
    field("vote", "has", [...Object.entries(VOTES).filter(([value]) => value !== "wrong" || items.some((item) => item.gold !== null)), ...data.classes.map((name) => [`is ${name}`, `a vote ${name}`])]),
    groups.size > 1 && groups.size <= 300 ? field("group", "group", options(groups, "any")) : groups.size > 1 ? field("group", "group (whole name)") : null,
    field("fold", "tested in fold", options(counted(items.flatMap((item) => item.predictions.map((row) => String(row[0])))), "any")),
    field("sort", "sort", Object.entries(SORTS)), el("p", { class: "counts" }, ui.count, " ", ui.clear));
  ui.pair = el("p", { class: "pair" });
  ui.spacer = el("div", { class: "spacer" });
  ui.rows = el("div", {});
  ui.spacer.append(ui.rows);
  ui.list = el("div", { class: "list", tabindex: "0", role: "listbox", "aria-label": "items", onscroll: showList, onkeydown: keyed }, ui.spacer);
  ui.item = el("div", { class: "item" });
  ui.position = el("span", { class: "position" });
  const step = (by, name) => el("button", { title: name, "aria-label": name, onclick: () => select(selected + by) }, by < 0 ? "↑" : "↓");
  const findings = data.findings.map(([sentence, fragment]) => el("li", {}, sentence, " ",
    fragment ? el("a", { href: `#${fragment}`, onclick: (event) => { event.preventDefault(); show(fragment); } }, "the items") : null));
  ui.section = el("section", { tabindex: "0", "aria-label": "the item" },
    el("div", { class: "steps" }, step(-1, "previous item"), step(1, "next item"), ui.position), ui.item);
  page.replaceChildren(
    el("header", {}, el("h1", {}, el("bdi", {}, data.title), " ", el("small", {}, "items and labels")),
      data.notes.map((note) => el("p", { class: "note" }, note)),
      el("details", { class: "findings" }, el("summary", {}, `Findings (${findings.length})`), el("ul", {}, findings)),
      ui.shows, controls, ui.pair),
    el("div", { class: "panes" }, ui.list, ui.section));
}

function show(fragment) {
  const given = new URLSearchParams(fragment);
  const wanted = Object.fromEntries(KEYS.map((key) => [key, given.get(key) || ""]));
  set({ ...wanted, sort: wanted.sort || SORT_OF[wanted.show] || "" });
}

function keyed(event) {
  const page = Math.max(1, Math.floor(ui.list.clientHeight / ROW) - 1);
  const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -chosen.length, End: chosen.length };
  if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  select(selected + steps[event.key]);
}

async function start() {
  const text = atob(document.getElementById("data").textContent);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  data = JSON.parse(await new Response(stream).text());
  build();
  recall();
  warm();
  window.addEventListener("hashchange", recall);
  window.addEventListener("resize", showList);
}

// What a search looks through is made before anybody searches, a few items at a time.
function warm(position = 0) {
  const end = performance.now() + 10;
  while (position < data.items.length && performance.now() < end) words(data.items[position++]);
  if (position < data.items.length) setTimeout(() => warm(position), 10);
}

start().catch((error) => {
  document.getElementById("page").textContent = `This browser can't show the page (${error}); it needs one from 2023 on.`;
});
