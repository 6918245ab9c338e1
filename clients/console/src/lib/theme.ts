//! Dark and light. Without a choice, the setting of the system applies. `theme.js` sets the first theme.

import { Store } from "./store";

export type Theme = "system" | "light" | "dark";

const KEY = "c3.theme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

class ThemeStore extends Store<Theme> {
  choose(theme: Theme): void {
    try {
      if (theme === "system") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Storage is blocked: the choice lasts until the page is closed.
    }
    this.apply(theme);
  }

  apply(theme: Theme): void {
    const isDark = theme === "system" ? systemDark.matches : theme === "dark";
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    this.set(theme);
  }
}

export const theme = new ThemeStore(stored());

systemDark.addEventListener("change", () => theme.apply(theme.value));
