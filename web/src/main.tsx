import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { Speaking } from "./i18n";
import { Sessions } from "./session";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/app.css";
import "./styles/lists.css";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");

createRoot(root).render(
  <StrictMode>
    <Speaking>
      <Sessions>
        <App />
      </Sessions>
    </Speaking>
  </StrictMode>,
);
