// Shows /openapi.json with nothing from outside: no fonts, no proxy, no telemetry.
Scalar.createApiReference("#app", {
  url: "/openapi.json",
  withDefaultFonts: false,
  telemetry: false,
  proxyUrl: "",
  hideClientButton: true,
  showDeveloperTools: "never",
  authentication: { preferredSecurityScheme: "apiKey" },
  agent: { disabled: true },
  mcp: { disabled: true },
  documentDownloadType: "json",
  customCss: ":root { --scalar-font: system-ui, sans-serif; --scalar-font-code: ui-monospace, monospace; }",
});
