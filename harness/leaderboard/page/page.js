"use strict";
// Sorting, filtering, theme, and the pictures. The page reads well without any of it; nothing here asks the network.
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const boards = all(".board");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // -- theme ----------------------------------------------------------------------------------------------------------
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const themeButton = document.getElementById("theme");
  const remembered = (value) => {
    try { return value === undefined ? localStorage.getItem("harness-theme") : localStorage.setItem("harness-theme", value); }
    catch { return null; } // a page opened from a file may have no storage
  };
  const sayTheme = () => { themeButton.setAttribute("aria-pressed", String(isDark())); redraw(); };
  const saved = remembered();
  if (saved === "dark" || saved === "light") root.dataset.theme = saved;
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    sayTheme();
  });
  dark.addEventListener("change", sayTheme);

  // -- one board at a time --------------------------------------------------------------------------------------------
  const links = all(".boards a");
  const show = (id) => {
    if (!boards.some((board) => board.id === id)) return false;
    boards.forEach((board) => { board.hidden = board.id !== id; });
    links.forEach((link) => link.setAttribute("aria-current", String(link.hash === `#${id}`)));
    return true;
  };
  links.forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    show(link.hash.slice(1));
    try { history.replaceState(null, "", link.hash); } catch { /* not allowed everywhere; the board is shown anyway */ }
    filter();
  }));

  // -- sorting --------------------------------------------------------------------------------------------------------
  const status = document.getElementById("status");
  const value = (row, column) => {
    let at = 0;
    for (const cell of row.cells) if ((at += cell.colSpan) > column) return cell.dataset.v ?? "";
    return "";
  };
  const compare = (column, words, direction) => (a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
    return direction * (words ? x.localeCompare(y) : Number(x) - Number(y));
  };
  all("th button[data-column]").forEach((button) => button.addEventListener("click", () => {
    const heading = button.closest("th"), body = button.closest("table").tBodies[0];
    const before = heading.getAttribute("aria-sort"), first = button.dataset.first;
    const next = before === null ? first : before === "ascending" ? "descending" : "ascending";
    all("th[aria-sort]", button.closest("thead")).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", next);
    const order = compare(Number(button.dataset.column), "words" in button.dataset, next === "ascending" ? 1 : -1);
    body.append(...[...body.rows].sort(order)); // stable
    status.textContent = `Sorted by ${button.textContent.trim()}, ${next}.`;
  }));

  // -- filtering ------------------------------------------------------------------------------------------------------
  const text = document.getElementById("filter"), family = document.getElementById("family");
  const count = document.getElementById("count");
  const wanted = (element) => {
    const named = element.dataset.label.toLowerCase().includes(text.value.trim().toLowerCase());
    const kin = !family.value || element.dataset.kind === "reference" || JSON.parse(element.dataset.tags).includes(family.value);
    return named && kin;
  };
  const filter = () => {
    let shown = 0, of = 0;
    boards.forEach((board) => {
      all("tbody tr[data-label]", board).forEach((row) => {
        row.hidden = !wanted(row);
        if (!board.hidden) { of += 1; shown += row.hidden ? 0 : 1; }
      });
      all(".chip[data-label]", board).forEach((chip) => { chip.hidden = !wanted(chip); });
      if (!board.hidden) tell(board);
    });
    count.textContent = `${shown} of ${of} rows shown`;
  };
  text.addEventListener("input", () => filter());
  family.addEventListener("change", () => filter());
  document.querySelector(".controls").hidden = false;

  // -- pictures -------------------------------------------------------------------------------------------------------
  const source = document.getElementById("pictures");
  const pictures = source ? JSON.parse(source.textContent) : {};
  const drawn = new Map(); // place -> view

  const losses = (board) => all(".chip[data-label]", board)
    .filter((chip) => chip.getAttribute("aria-pressed") === "true" && !chip.hidden)
    .map((chip) => chip.dataset.label);
  const tell = (board) => all(".picture", board).filter((place) => pictures[place.id].selectable).forEach((place) => {
    const shown = losses(board);
    place.classList.toggle("empty", !shown.length); // to Vega an empty list means all of them
    if (shown.length) drawn.get(place)?.signal("shown", shown).runAsync();
  });
  const colours = () => {
    const css = getComputedStyle(root), value = (name) => css.getPropertyValue(name).trim();
    const ink = value("--text"), line = value("--line"), faint = value("--faint");
    return {
      background: null, font: getComputedStyle(document.body).fontFamily,
      axis: { labelColor: faint, titleColor: ink, gridColor: line, domainColor: faint, tickColor: faint, titleFontWeight: 500, labelFlush: false },
      legend: { labelColor: faint, titleColor: ink, orient: "bottom" }, view: { stroke: line },
    };
  };
  // The buttons above the pictures are their legend.
  const unlisted = (view) => {
    if (view.encoding?.color) view.encoding.color.legend = null;
    [...(view.layer ?? []), ...(view.vconcat ?? [])].forEach(unlisted);
  };
  const fitted = (picture, place) => {
    const spec = structuredClone(picture.spec), width = Math.max(220, place.clientWidth - 78);
    delete spec.title; // the page says it
    if (picture.selectable) {
      (spec.vconcat ?? [spec]).forEach((view) => { view.width = width; });
      if (width < 420) (spec.vconcat ?? [spec]).forEach((view) => { view.height = Math.min(view.height ?? 240, 240); });
      unlisted(spec);
      spec.params.find((parameter) => parameter.name === "shown").value = losses(place.closest(".board"));
    }
    spec.config = { ...spec.config, ...colours() };
    return spec;
  };
  const draw = async (place) => {
    place.dataset.drawn = "pending";
    const dress = { actions: false, renderer: "svg", ast: true, tooltip: { theme: isDark() ? "dark" : "light" } };
    const result = await window.vegaEmbed(place, fitted(pictures[place.id], place), dress);
    drawn.get(place)?.finalize();
    drawn.set(place, result.view);
    place.dataset.drawn = "yes";
    tell(place.closest(".board"));
  };
  const redraw = () => drawn.forEach((_, place) => draw(place));
  if (source) {
    const watch = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      watch.unobserve(entry.target);
      draw(entry.target);
    }), { rootMargin: "400px" });
    all(".picture").forEach((place) => watch.observe(place));
    all(".chips").forEach((chips) => { chips.hidden = false; });
    all(".chip").forEach((chip) => chip.addEventListener("click", () => {
      const board = chip.closest(".board"), every = chip.dataset.every;
      if (every) all(".chip[data-label]", board).forEach((each) => each.setAttribute("aria-pressed", every));
      else chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      tell(board);
    }));
    let waiting = 0, before = window.innerWidth;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { if (window.innerWidth !== before) { before = window.innerWidth; redraw(); } }, 200);
    });
  }

  sayTheme();
  if (!show(location.hash.slice(1)) && boards.length) show(boards[0].id);
  filter();
})();
