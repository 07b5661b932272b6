// Draws a figure, and tells which of its words are cut off or lie over others.
const TOLERANCE_PX = 2;

async function draw(json, width) {
  const figure = document.getElementById("figure");
  figure.style.width = `${width}px`;
  Plotly.purge(figure);
  const { data, layout } = JSON.parse(json);
  await Plotly.newPlot(figure, data, layout, { displayModeBar: false });
}

function misplaced() {
  const figure = document.getElementById("figure");
  const frame = figure.getBoundingClientRect();
  const found = [];
  const texts = [...figure.querySelectorAll("svg text")]
    .map((text) => ({ words: text.textContent, node: text, box: text.getBoundingClientRect() }))
    .filter(({ words, box }) => words.trim() && box.width > 0 && box.height > 0);
  for (const { words, box } of texts) {
    const out = Math.max(
      frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom,
    );
    if (out > TOLERANCE_PX) found.push(`${words} is ${Math.round(out)} px out of the figure`);
  }
  // Words inside bars and cells are hidden by plotly where they do not fit.
  const around = texts.filter(({ node }) => !node.closest(".plot"));
  around.forEach((one, place) => {
    for (const other of around.slice(place + 1)) {
      if (meet(one.box, other.box)) found.push(`${one.words} lies over ${other.words}`);
    }
  });
  for (const { words, node } of around) {
    const turned = /rotate\((-?[\d.]+)/.exec(node.getAttribute("transform"));
    if (node.closest("[class$=tick]") && turned && Number(turned[1]) !== 0) {
      found.push(`${words} is not level`);
    }
  }
  const plots = [...figure.querySelectorAll("rect.nsewdrag")].map((p) => p.getBoundingClientRect());
  for (const legend of figure.querySelectorAll("g.legend rect.bg")) {
    const box = legend.getBoundingClientRect();
    if (plots.some((plot) => meet(plot, box))) found.push("the legend lies over the plot");
    for (const { words, node, box: other } of around) {
      if (!node.closest(".legend") && meet(box, other)) found.push(`the legend lies over ${words}`);
    }
  }
  return found;
}

function meet(one, other) {
  const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
  const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
  return across > TOLERANCE_PX && down > TOLERANCE_PX;
}
