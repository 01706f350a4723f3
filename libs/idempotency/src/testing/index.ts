export { armFailpoints, type Failpoint } from '../failpoint.js';
