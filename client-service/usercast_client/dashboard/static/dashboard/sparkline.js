/** Receives the lags of the last ten minutes, from strip.js; draws them, if Chart.js could be loaded. */

const dark = matchMedia("(prefers-color-scheme: dark)");

export class Sparkline {
  #chart = /** @type {any} */ (null);
  #lags;

  /** @param {(number|null)[]} lags */
  constructor(lags) {
    this.#lags = lags;
    // Chart.js is a script of its own that no part of the page waits for.
    document.addEventListener("DOMContentLoaded", () => this.#draw());
  }

  /** @param {(number|null)[]} lags */
  show(lags) {
    if (lags.join() === this.#lags.join()) return;
    this.#lags = lags;
    if (!this.#chart) return;
    this.#chart.data.datasets[0].data = lags;
    this.#chart.update();
  }

  #draw() {
    const { Chart } = /** @type {any} */ (globalThis);
    if (!Chart) return;
    this.#chart = new Chart(document.getElementById("sparkline"), {
      type: "bar",
      data: {
        labels: this.#lags.map(String),
        datasets: [{ data: this.#lags, backgroundColor: colour("--accent"), barPercentage: 1, categoryPercentage: 0.8, minBarLength: 2 }],
      },
      options: {
        animation: false,
        events: [],
        maintainAspectRatio: false,
        plugins: { legend: { display: false }, tooltip: { enabled: false } },
        scales: { x: { display: false }, y: { display: false, beginAtZero: true } },
      },
    });
    dark.addEventListener("change", () => this.#recolour());
  }

  #recolour() {
    this.#chart.data.datasets[0].backgroundColor = colour("--accent");
    this.#chart.update();
  }
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
