declare module "virtual:vocabulary" {
  const tokens: string[];
  export default tokens;
}
