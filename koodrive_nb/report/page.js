"use strict";
(() => {
  const config = {
    displaylogo: false, responsive: true, showSendToCloud: false, showEditInChartStudio: false,
    plotlyServerURL: "", modeBarButtonsToRemove: ["sendDataToCloud", "sendChartToCloud", "select2d", "lasso2d"],
  };
  const plots = Array.from(document.querySelectorAll("figure"), (figure) => ({
    figure,
    plot: figure.querySelector(".plot"),
    drawn: JSON.parse(figure.querySelector("script").textContent),
  }));
  const draw = (one, module) => {
    const { data, layout, alt } = one.drawn[module] || one.drawn.all;
    one.plot.style.height = `${layout.height || 450}px`;
    one.plot.setAttribute("aria-label", alt);
    Plotly.react(one.plot, data, { ...layout, autosize: true, width: undefined }, config);
    for (const table of one.figure.querySelectorAll("details")) {
      table.hidden = table.dataset.module !== (one.drawn[module] ? module : "all");
    }
  };
  for (const one of plots) draw(one, "all");
  for (const choice of document.querySelectorAll("input[name=module]")) {
    choice.addEventListener("change", () => {
      for (const one of plots) if (Object.keys(one.drawn).length > 1) draw(one, choice.value);
    });
  }
})();
