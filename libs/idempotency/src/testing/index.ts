export { armFailpoints, type Failpoint } from '../failpoint.js';
export {
  type ContractCase,
  type ContractDatabase,
  storeContract,
  type StoreContractOptions,
} from './store-contract.js';
