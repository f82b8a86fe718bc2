// A long list, a page at a time.

const PAGE = 50;

/** Turns a list page by page. `drawPart` is given a part of it, and how much of it that is; `top` names
 * the element that a page begins with. */
function pager(name, list, drawPart, top = "calls-shown") {
  let [found, page] = [list, 0];
  const back = el("button", { type: "button", onclick: () => turnTo(page - 1) }, "Previous");
  const on = el("button", { type: "button", onclick: () => turnTo(page + 1) }, "Next");
  const nav = el("nav", { class: "pages", "aria-label": name }, back, on);
  function draw() {
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    drawPart(shown, found.length > PAGE ? `, ${count(page * PAGE + 1)} to ${count(page * PAGE + shown.length)} shown` : "");
    back.disabled = page === 0;
    on.disabled = (page + 1) * PAGE >= found.length;
    nav.hidden = found.length <= PAGE;
  }
  function turnTo(number) {
    page = number;
    draw();
    (on.disabled ? back : on.contains(document.activeElement) ? on : back).focus();
    document.getElementById(top).scrollIntoView();
  }
  return {
    nav,
    set(some) {
      [found, page] = [some, 0];
      draw();
    },
    /** Turns to where something stands; whether it is there. */
    turnTo(one) {
      const at = found.indexOf(one);
      if (at < 0) return false;
      if (Math.floor(at / PAGE) !== page) {
        page = Math.floor(at / PAGE);
        draw();
      }
      return true;
    },
  };
}
