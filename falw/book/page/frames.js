// Moves between pictures that were drawn beforehand. A frame's number is its position in the product of the sliders,
// the last one running fastest.
const frames = (root) => {
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const sliders = [...root.querySelectorAll("input")], picture = root.querySelector(".explorer-picture");
  const show = () => {
    const frame = sliders.reduce((n, s, i) => n * data.texts[i].length + Number(s.value), 0);
    sliders.forEach((s, i) => {
      const text = data.texts[i][s.value];
      s.setAttribute("aria-valuetext", text);
      s.nextElementSibling.textContent = text;
    });
    picture.innerHTML = data.frames[frame].map((k) => data.lines[k]).join("\n");
    picture.setAttribute("aria-label", data.alts[frame]);
  };
  sliders.forEach((s) => s.addEventListener("input", show));
  const button = root.querySelector(".explorer-play");
  if (button) playable(button, sliders[button.value], show);
};

// The button runs its slider to the end, from the start again if it is there; where a reader wants less motion, a press
// is one step.
const playable = (button, slider, show) => {
  const [step, run] = ["Next", "Play"].map((verb) => `${verb} ${button.name}`), still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = 0;
  const name = () => { button.textContent = still.matches ? step : timer ? "Pause" : run; };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    name();
  };
  const next = () => {
    slider.value = slider.value === slider.max ? 0 : Number(slider.value) + 1;
    show();
    if (slider.value === slider.max) stop();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (timer) return stop();
    next();
    if (!still.matches && slider.value !== slider.max) timer = setInterval(next, 800);
    name();
  });
  slider.addEventListener("input", stop);
  still.addEventListener("change", stop);
  name();
};
