// What the theme leaves out for readers without a mouse or a screen: what scrolls can be reached with the keyboard, and
// a button is called what it shows.
function reachable() {
  for (const box of document.querySelectorAll("pre, .cell_output .output")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", () => {
  document.querySelectorAll("summary[aria-label], .search-button-field").forEach(one => one.removeAttribute("aria-label"));
  reachable();
});
addEventListener("resize", reachable);
