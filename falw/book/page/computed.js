// Wires the controls of a computed explorer: `numbers` and `plots` come from explorers.js, the words from Python.
const compute = (root, { numbers, plots }) => {
  const { alt, formula, constants } = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const controls = [...root.querySelectorAll("input, select")];
  const picture = root.querySelector(".explorer-picture"), said = root.querySelector(".explorer-formula");
  const value = (c) => (c.tagName === "SELECT" ? c.value : Number(c.value));
  const show = () => {
    const values = { ...constants, ...Object.fromEntries(controls.map((c) => [c.name, value(c)])) };
    const found = { ...values, ...numbers(values) };
    controls.filter((c) => c.type === "range").forEach((c) => {
      const text = (c.step < 1 ? Number(c.value).toFixed(2) : c.value).replace("-", "−");
      c.setAttribute("aria-valuetext", text);
      c.nextElementSibling.textContent = text;
    });
    said.innerHTML = filled(formula, found);
    picture.setAttribute("aria-label", filled(alt, found));
    drawPanels(picture, plots(found));
  };
  root.classList.add("alive");
  controls.forEach((c) => c.addEventListener("input", show));
  let width = 0; // a picture is drawn as wide as it is shown
  new ResizeObserver(() => {
    if (root.clientWidth !== width) show();
    width = root.clientWidth;
  }).observe(root);
  show();
};
