"use strict";
const KINDS = ["category", "latent", "code"];
const TITLES = { category: "Category", latent: "Latent", code: "Code" };
const LINE = 26; // pixels of a line at which text is easily read
const MOST = 44; // pixels of a line when zoomed in as far as it goes
const LEGIBLE = 14; // least height in pixels of a node that bears words
const WIDE = 250; // pixels of a column, and the least of one
const NARROW = 96;
const TERSE = 90; // pixels that a label must have left for a count beside it
const EASY = 18; // pixels of a line at first, where not all of the tree has room
const SUGGESTED = 12;
const numbers = new Intl.NumberFormat("en");
const COUNT = (number) => numbers.format(number);
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const element = (id) => document.getElementById(id);

/** An element with attributes and children; text stays text. */
function made(tag, attributes, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

/** Path of the mark of a kind of node: square, diamond or disc. */
function outline(kind, x, y, half) {
  if (kind === "category") {
    const side = half * 0.88;
    return `M${x - side} ${y - side}h${2 * side}v${2 * side}h${-2 * side}z`;
  }
  if (kind === "latent") {
    const far = half * 1.15;
    return `M${x} ${y - far}l${far} ${far}l${-far} ${far}l${-far} ${-far}z`;
  }
  const arc = `a${half} ${half} 0 1 0`;
  return `M${x - half} ${y}${arc} ${2 * half} 0${arc} ${-2 * half} 0z`;
}

function marker(kind) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "-6 -6 12 12");
  svg.setAttribute("class", `mark ${kind}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", outline(kind, 0, 0, 5));
  svg.append(path);
  return svg;
}
