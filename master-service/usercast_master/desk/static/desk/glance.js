// The start page renews itself: figures every few seconds, the charts with them.

import { keepRenewed } from "./renew.js";

const glance = document.getElementById("glance");
const stale = document.getElementById("glance-stale");

function minutes() {
  return JSON.parse(document.getElementById("glance-chart").textContent);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--color-${name}`).trim();
}

function looks() {
  const dark = document.documentElement.classList.contains("dark");
  const line = { color: colour(dark ? "base-800" : "base-200") };
  const ticks = { color: colour(dark ? "base-400" : "base-500"), maxRotation: 0 };
  return {
    ink: colour(dark ? "primary-400" : "primary-600"),
    x: { grid: { display: false }, border: line, ticks: { ...ticks, autoSkip: false, callback: tenth } },
    y: { grid: line, border: { display: false }, ticks: { ...ticks, maxTicksLimit: 5 } },
  };
}

function tenth(index) {
  const minute = this.getLabelForValue(index);
  return minute.endsWith("0") ? minute : null;
}

function chart(id, type, name, set) {
  const { ink, x, y } = looks();
  return new Chart(document.getElementById(id), {
    type,
    data: {
      labels: minutes().minutes,
      datasets: [{ label: name, data: minutes()[set], backgroundColor: ink, borderColor: ink }],
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      borderWidth: type === "line" ? 2 : 0,
      pointRadius: type === "line" ? 2 : 0,
      interaction: { mode: "index", intersect: false },
      plugins: { legend: { display: false } },
      scales: { x, y: { ...y, beginAtZero: true, suggestedMax: 1 } },
    },
  });
}

const charts = {
  changes: chart("changes-chart", "bar", "changes", "changes"),
  slowest: chart("slowest-chart", "line", "seconds", "slowest"),
};

function redraw() {
  const { ink, x, y } = looks();
  const known = minutes();
  for (const [set, drawn] of Object.entries(charts)) {
    drawn.data.labels = known.minutes;
    Object.assign(drawn.data.datasets[0], { data: known[set], backgroundColor: ink, borderColor: ink });
    Object.assign(drawn.options.scales.x, x);
    Object.assign(drawn.options.scales.y, y);
    drawn.update();
  }
}

new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["class"] });
keepRenewed(glance, stale, redraw);
