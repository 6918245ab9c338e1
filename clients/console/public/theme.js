// Sets the theme before the first paint. A module would run too late, and the other theme would flash.
let theme = null;
try {
  theme = localStorage.getItem("c3.theme");
} catch {
  // Storage is blocked: the theme of the system applies.
}
if (theme !== "dark" && theme !== "light") theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
document.documentElement.dataset.theme = theme;
