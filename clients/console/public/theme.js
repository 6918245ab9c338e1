// Sets the chosen theme before the first paint. A module would run too late and flash the other theme.
try {
  const theme = localStorage.getItem("c3.theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked: the theme of the system applies.
}
