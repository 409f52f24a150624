(function () {
  "use strict";
  var root = document.documentElement, theme = document.getElementById("theme");
  function isDark() {
    var chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function name() { theme.textContent = isDark() ? "Light page" : "Dark page"; }
  theme.hidden = false;
  theme.addEventListener("click", function () { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  name();

  function key(row, column) {
    var cell = row.cells[column], given = cell.getAttribute("data-sort"), value = cell.querySelector(".value"), text = given === null ? (value || cell).textContent.trim() : given;
    var read = Number(text.replace("−", "-"));
    return { empty: text === "" || text === "–" || text === "missing", number: text !== "" && !isNaN(read) ? read : null, text: text };
  }
  function compare(a, b) {
    if (a.number !== null && b.number !== null) { return a.number - b.number; }
    return a.text.localeCompare(b.text, "en", { numeric: true });
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var heads = table.tHead.rows[0].cells, body = table.tBodies[0];
    Array.prototype.forEach.call(heads, function (head, column) {
      head.querySelector(".sort").addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        Array.prototype.forEach.call(heads, function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        var rows = Array.prototype.slice.call(body.rows).map(function (row, place) { return { row: row, key: key(row, column), place: place }; });
        rows.sort(function (a, b) {
          if (a.key.empty !== b.key.empty) { return a.key.empty ? 1 : -1; }
          return (down ? -1 : 1) * compare(a.key, b.key) || a.place - b.place;
        });
        rows.forEach(function (item) { body.appendChild(item.row); });
      });
    });
  });

  document.querySelectorAll(".tabs").forEach(function (tabs, group) {
    var panels = Array.prototype.slice.call(tabs.querySelectorAll(".panel"));
    if (panels.length < 2) { return; }
    var list = document.createElement("div");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Number of labels");
    var buttons = panels.map(function (panel, index) {
      var button = document.createElement("button");
      panel.id = "panel-" + group + "-" + index;
      panel.setAttribute("role", "tabpanel");
      panel.querySelector("h4").hidden = true;
      button.type = "button";
      button.setAttribute("role", "tab");
      button.setAttribute("aria-controls", panel.id);
      button.textContent = panel.dataset.title;
      button.addEventListener("click", function () { show(index); });
      button.addEventListener("keydown", function (event) {
        var step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) { var next = (index + step + panels.length) % panels.length; show(next); buttons[next].focus(); }
      });
      list.appendChild(button);
      return button;
    });
    function show(chosen) {
      panels.forEach(function (panel, index) {
        panel.hidden = index !== chosen;
        buttons[index].setAttribute("aria-selected", String(index === chosen));
        buttons[index].tabIndex = index === chosen ? 0 : -1;
      });
    }
    tabs.insertBefore(list, tabs.firstChild);
    show(0);
  });

  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (details) { details.open = true; });
  });
})();
