"use strict";
// Sorting, filtering, the theme and the pictures. The page reads well without any of it; nothing here asks the network.
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const boards = all(".board");

  // -- theme: the system's, until the button chooses -------------------------------------------------------------------
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches);
  const themeButton = document.getElementById("theme");
  const savedTheme = () => {
    try { return localStorage.getItem("harness-theme"); }
    catch { return null; } // a page opened from a file may have no storage
  };
  const saveTheme = (theme) => {
    try { localStorage.setItem("harness-theme", theme); } catch { /* as above: it lasts until the page is closed */ }
  };
  const applyTheme = () => { themeButton.setAttribute("aria-pressed", String(isDark())); redrawPictures(); };
  if (["dark", "light"].includes(savedTheme())) root.dataset.theme = savedTheme();
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    saveTheme(root.dataset.theme);
    applyTheme();
  });
  systemIsDark.addEventListener("change", applyTheme);

  // -- one board at a time --------------------------------------------------------------------------------------------
  const boardLinks = all(".boards a"), controls = document.querySelector(".controls");
  const markMore = () => all(".frame").forEach((frame) => { // a table that goes on to the right says so at its edge
    const inside = frame.firstElementChild;
    frame.classList.toggle("more", inside.scrollLeft + inside.clientWidth < inside.scrollWidth - 2);
  });
  const tableSizes = new ResizeObserver(markMore); // of windows and of text
  all(".frame > .scroll, .frame table").forEach((element) => tableSizes.observe(element));
  all(".frame > .scroll").forEach((inside) => inside.addEventListener("scroll", markMore));
  const showBoard = (id) => {
    if (!boards.some((board) => board.id === id)) return false;
    boards.forEach((board) => { board.hidden = board.id !== id; });
    boardLinks.forEach((link) => link.setAttribute("aria-current", String(link.hash === `#${id}`)));
    document.querySelector(`#${id} .frame`)?.before(controls); // they are of the table that they stand over
    markMore();
    return true;
  };
  boardLinks.forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    showBoard(link.hash.slice(1));
    try { history.replaceState(null, "", link.hash); } catch { /* not allowed everywhere; the board is shown anyway */ }
    applyFilter();
  }));

  // -- sorting --------------------------------------------------------------------------------------------------------
  const status = document.getElementById("status");
  const sortValue = (row, column) => {
    let end = 0; // a cell may reach over several columns
    for (const cell of row.cells) if ((end += cell.colSpan) > column) return cell.dataset.v ?? "";
    return "";
  };
  const byColumn = (column, asText, direction) => (a, b) => {
    const [x, y] = [sortValue(a, column), sortValue(b, column)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
    return direction * (asText ? x.localeCompare(y) : Number(x) - Number(y));
  };
  all("th button[data-column]").forEach((button) => button.addEventListener("click", () => {
    const heading = button.closest("th"), body = button.closest("table").tBodies[0];
    const before = heading.getAttribute("aria-sort"), first = button.dataset.first;
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    all("th[aria-sort]", button.closest("thead")).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const direction = order === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort(byColumn(Number(button.dataset.column), "text" in button.dataset, direction)));
    status.textContent = `Sorted by ${button.textContent.trim()}, ${order}.`;
  }));

  // -- filtering, of rows and of the buttons above the pictures -------------------------------------------------------
  const nameInput = document.getElementById("filter"), familySelect = document.getElementById("family");
  const count = document.getElementById("count");
  const passesFilter = ({ dataset }) => {
    const name = nameInput.value.trim().toLowerCase(), family = familySelect.value;
    const inFamily = !family || dataset.kind === "reference" || JSON.parse(dataset.tags).includes(family);
    return inFamily && dataset.label.toLowerCase().includes(name);
  };
  const applyFilter = () => {
    boards.forEach((board) => {
      const rows = all("tbody tr[data-label]", board);
      const elements = [...rows, ...all(".line[data-label], .chip[data-label]", board)];
      elements.forEach((element) => { element.hidden = !passesFilter(element); });
      if (board.hidden) return;
      updatePictures(board);
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows shown`;
    });
  };
  nameInput.addEventListener("input", applyFilter);
  familySelect.addEventListener("change", applyFilter);
  controls.hidden = false;

  // -- pictures: each is drawn when it comes near the window; its buttons choose the losses ----------------------------
  const source = document.getElementById("pictures");
  const pictures = source ? JSON.parse(source.textContent) : {};
  const views = new Map(); // place -> Vega's view of the picture drawn there

  const chosenLosses = (board) => all(".chip[data-label]", board)
    .filter((chip) => chip.getAttribute("aria-pressed") === "true" && !chip.hidden)
    .map((chip) => chip.dataset.label);
  const updatePictures = (board) => {
    const losses = chosenLosses(board);
    all(".picture", board).filter((place) => pictures[place.id].selectable).forEach((place) => {
      place.classList.toggle("empty", !losses.length); // to Vega an empty list means all of them
      if (losses.length) views.get(place)?.signal("shown", losses).runAsync();
    });
  };
  const textScale = () => parseFloat(getComputedStyle(root).fontSize) / 16; // pictures follow the size of the text
  const themeConfig = () => {
    const css = getComputedStyle(root), colour = (name) => css.getPropertyValue(name).trim();
    const text = colour("--text"), line = colour("--line"), faint = colour("--faint");
    const size = textScale();
    const words = { labelFontSize: 10 * size, titleFontSize: 11 * size, labelColor: faint, titleColor: text };
    return {
      background: null, font: getComputedStyle(document.body).fontFamily, text: { fontSize: 11 * size },
      axis: { ...words, gridColor: line, domainColor: faint, tickColor: faint, titleFontWeight: 500, labelFlush: false },
      legend: { ...words, orient: "bottom" }, view: { stroke: line },
    };
  };
  const removeLegends = (view) => { // the buttons above the pictures are their legend
    if (view.encoding?.color) view.encoding.color.legend = null;
    [...(view.layer ?? []), ...(view.vconcat ?? [])].forEach(removeLegends);
  };
  const specFor = (place) => {
    const { spec: stored, selectable } = pictures[place.id];
    const spec = structuredClone(stored);
    const width = Math.max(220, place.clientWidth - 78 * textScale()); // the axis and its title take 78 px
    delete spec.title; // the page has it as a heading
    if (selectable) {
      const panels = spec.vconcat ?? [spec];
      panels.forEach((panel) => { panel.width = width; });
      if (width < 420) panels.forEach((panel) => { panel.height = Math.min(panel.height ?? 240, 240); });
      removeLegends(spec);
      spec.params.find((parameter) => parameter.name === "shown").value = chosenLosses(place.closest(".board"));
    }
    spec.config = { ...spec.config, ...themeConfig() };
    return spec;
  };
  const draw = async (place) => {
    place.dataset.drawn = "pending";
    // `ast`: Vega interprets its expressions, because the page's policy forbids making code from text
    const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: isDark() ? "dark" : "light" } };
    const result = await window.vegaEmbed(place, specFor(place), options);
    views.get(place)?.finalize();
    views.set(place, result.view);
    place.dataset.drawn = "yes";
    updatePictures(place.closest(".board")); // the choice may have changed meanwhile
  };
  const redrawPictures = () => views.forEach((_, place) => draw(place));
  if (source) {
    const watch = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      watch.unobserve(entry.target);
      draw(entry.target);
    }), { rootMargin: "400px" });
    all(".picture").forEach((place) => watch.observe(place));
    all(".chips").forEach((chips) => { chips.hidden = false; });
    all(".chip").forEach((chip) => chip.addEventListener("click", () => {
      const board = chip.closest(".board"), pressAll = chip.dataset.every;
      if (pressAll) all(".chip[data-label]", board).forEach((other) => other.setAttribute("aria-pressed", pressAll));
      else chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      updatePictures(board);
    }));
    const sizes = () => `${window.innerWidth} ${textScale()}`;
    let timer = 0, drawn = sizes();
    new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => { // what is drawn or opened changes the height alone
        if (sizes() !== drawn) { drawn = sizes(); redrawPictures(); }
      }, 200);
    }).observe(document.body);
  }

  applyTheme();
  if (!showBoard(location.hash.slice(1)) && boards.length) showBoard(boards[0].id);
  applyFilter();
})();
