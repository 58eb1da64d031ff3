window.addEventListener("load", () => {
  // What scrolls sideways can be reached by the keyboard.
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    box.tabIndex = 0
  }
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
})
