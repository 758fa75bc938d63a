// Turns all scenes of the page together. The two sliders are where they are looked at from.
(() => {
  const { azimuths, elevations, fronts, orbits } = JSON.parse(
    document.getElementById("orbits").textContent,
  );
  // Loaded now, so that the browser has each at hand when its turn comes.
  const frames = orbits.map((sources) =>
    sources.map((source) => Object.assign(new Image(), { src: source })),
  );
  const scenes = [...document.querySelectorAll("img.scene")];
  const form = document.querySelector(".orbit");
  const { azimuth, elevation, align } = form.elements;
  document.documentElement.classList.add("js");

  function put(image, turn, height) {
    const orbit = image.dataset.orbit;
    const seen = (turn + (align?.checked ? fronts[orbit] : 0)) % azimuths;
    image.src = frames[orbit][height * azimuths + seen].src;
  }

  function show() {
    for (const scene of scenes) put(scene, Number(azimuth.value), Number(elevation.value));
    azimuth.nextSibling.value = `${(360 / azimuths) * azimuth.value}°`;
    elevation.nextSibling.value = `${elevations[elevation.value]}°`;
  }

  // A slider keeps to its ends by itself; a turn has none.
  function look(turn, height) {
    azimuth.value = ((Math.round(turn) % azimuths) + azimuths) % azimuths;
    elevation.value = Math.round(height);
    show();
  }

  form.addEventListener("input", show);
  align?.addEventListener("input", () => {
    for (const view of document.querySelectorAll("img.view")) put(view, Number(view.dataset.turn), 0);
  });

  for (const scene of scenes) {
    let start = null;
    scene.addEventListener("pointerdown", (event) => {
      start = { x: event.clientX, y: event.clientY };
      start.turn = Number(azimuth.value);
      start.height = Number(elevation.value);
      scene.setPointerCapture(event.pointerId);
    });
    // Half a turn over the width of the picture, which follows the pointer.
    scene.addEventListener("pointermove", (event) => {
      if (!start) return;
      const right = (event.clientX - start.x) / scene.clientWidth;
      const down = (event.clientY - start.y) / scene.clientHeight;
      look(
        start.turn - (right * azimuths) / 2,
        start.height + down * elevations.length,
      );
    });
    for (const end of ["pointerup", "pointercancel"]) {
      scene.addEventListener(end, () => { start = null; });
    }
  }

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (target.isContentEditable || target.type === "range") return;
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
    // Elsewhere, up and down scroll the page.
    const height = scenes.includes(target) ? { ArrowUp: 1, ArrowDown: -1 }[event.key] ?? 0 : 0;
    if (!turn && !height) return;
    event.preventDefault();
    look(Number(azimuth.value) + turn, Number(elevation.value) + height);
  });

  show();
})();
