// Draw the charts in the colours of the theme, and switch between light and dark.
// The theme: #dark or #light in the address, else the reader's last choice, else the system's.
(function () {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function remembered() {
    try { return localStorage.getItem("disco-trace-theme"); } catch (error) { return null; }
  }

  function wanted() {
    const hash = location.hash.slice(1);
    if (hash === "dark" || hash === "light") return hash;
    return remembered() || (system.matches ? "dark" : "light");
  }

  function config() {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const dark = root.dataset.theme === "dark";
    const text = { labelColor: colour("--text"), titleColor: colour("--faint") };
    return {
      background: null,
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null },
      axis: {
        ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
        domainColor: colour("--line"), gridColor: colour("--line"), tickColor: colour("--line"),
        gridOpacity: 0.7,
      },
      axisBand: { grid: false },
      legend: { ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
                symbolType: "square" },
      range: {
        category: ["#3b7dd8", "#e8a33d", "#6fae4e", "#d9583b", "#b04fc4", "#22a39f",
                   "#c9638f", "#a07855", "#8fb4d9", "#9aa0a6"],
        heatmap: dark ? ["#20252b", "#275a8f", "#4fa3c7", "#ffe28a"]
                      : ["#f1f3f5", "#9cc3e6", "#3b7dd8", "#12305e"],
      },
    };
  }

  const drawn = [];

  function draw() {
    while (drawn.length) drawn.pop().finalize();
    if (!window.vegaEmbed) return;
    for (const element of document.querySelectorAll(".chart")) {
      const spec = JSON.parse(element.nextElementSibling.textContent);
      window.vegaEmbed(element, spec, {
        mode: "vega-lite", renderer: "svg", config: config(),
        actions: { export: true, source: false, compiled: false, editor: false },
        tooltip: { theme: root.dataset.theme },
      }).then((result) => drawn.push(result))
        .catch((error) => { element.textContent = "This chart cannot be drawn: " + error.message; });
    }
  }

  function show(theme) {
    root.dataset.theme = theme;
    draw();
  }

  document.getElementById("theme").addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("disco-trace-theme", theme); } catch (error) { /* not kept */ }
    show(theme);
  });
  system.addEventListener("change", () => show(wanted()));
  window.addEventListener("hashchange", () => {
    const hash = location.hash.slice(1);
    if ((hash === "dark" || hash === "light") && hash !== root.dataset.theme) show(hash);
  });
  show(wanted());
})();
