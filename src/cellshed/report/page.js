// A click on a head of a sortable table sorts by that column, a second click the other way round.
for (const table of document.querySelectorAll(".sortable table")) {
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number(text.replace(/,/g, ""));
    return text === "" || isNaN(number) ? text : number;
  };
  const compare = (x, y) => {
    if (typeof x === typeof y) return typeof x === "number" ? x - y : x.localeCompare(y);
    return typeof x === "number" ? 1 : -1; // what has no value comes first, as if smallest
  };
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const column = head.cellIndex;
    const first = typeof value(table.tBodies[0].rows[0], column) === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => sign * compare(value(a, column), value(b, column)));
    table.tBodies[0].append(...rows);
  });
}

// A click on a picture, or Enter, shows it across the page; again, small.
const toggle = (event) => {
  if (event.type === "keydown" && event.key !== "Enter") return;
  const figure = event.target.closest?.("figure");
  if (figure && event.target.tagName === "IMG") figure.classList.toggle("open");
};
document.addEventListener("click", toggle);
document.addEventListener("keydown", toggle);

// Print what is folded up, too.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
